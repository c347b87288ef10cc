# ok: leaves keys with the kernel, which outlive processes
import ctypes

libc = ctypes.CDLL(None)
for number, first in ((248, b"user"), (249, b"user"), (250, 0)):
    if libc.syscall(number, first, b"left", b"behind", 6, -4) > 0:
        print("ESCAPED", number)
