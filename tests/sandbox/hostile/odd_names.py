# ok: files with names that break what lists them
import os

for name in (b"-rf", b"\n", b"\xff\xfe", b"a" * 255, "\u202e".encode(), b"$(reboot)", b"*", b" ",
              b"\x1b[2J", "\U0001f4a3".encode(), b"..." , b"con", b"a:b"):  # fmt: skip
    with open(b"/tmp/" + name, "w") as file:
        file.write("x")
os.rename("/tmp/*", "/tmp/?")
print(len(os.listdir("/tmp")))
