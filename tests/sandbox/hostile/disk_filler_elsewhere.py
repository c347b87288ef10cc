# ok: fills every other folder that takes a file
import os

TAKES = "/dev/shm"
for folder in ("/", "/dev", "/dev/pts", "/dev/shm", "/proc", "/usr", "/etc", "/run", "/var/tmp"):
    written = 0
    try:
        while written < 1 << 30:
            with open(f"{folder}/filler{written}", "wb") as file:
                file.write(b"x" * (1 << 20))
            written += 1 << 20
    except OSError:
        pass
    if written > (32 << 20 if folder == TAKES else 0):
        print("ESCAPED", folder, written, os.listdir(folder))
