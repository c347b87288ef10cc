# ok: types into the terminal that the sandbox was started from
import fcntl
import os

TIOCSTI = 0x5412
for name in ("/dev/tty", "/dev/console", "/dev/stdin", "/dev/pts/0"):
    try:
        terminal = os.open(name, os.O_RDWR)
        fcntl.ioctl(terminal, TIOCSTI, b"x")
        print("ESCAPED", name)
    except OSError:
        pass
