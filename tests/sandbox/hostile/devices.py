# ok: makes devices and opens those of the machine
import os
import stat

for kind, number in ((stat.S_IFCHR, os.makedev(1, 1)), (stat.S_IFBLK, os.makedev(254, 0))):
    try:
        os.mknod("device", kind | 0o600, number)
        print("ESCAPED")
    except OSError:
        pass
expected = {"null", "zero", "full", "random", "urandom", "tty", "console", "core", "fd", "ptmx",
            "pts", "shm", "stdin", "stdout", "stderr"}  # fmt: skip
if more := set(os.listdir("/dev")) - expected:
    print("ESCAPED", more)
