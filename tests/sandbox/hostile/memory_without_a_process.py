# ok: memory files and System V memory, which no process is charged for
import ctypes
import os

try:
    os.memfd_create("held")
    print("ESCAPED")
except PermissionError:
    pass
if ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) != -1:
    print("ESCAPED")
