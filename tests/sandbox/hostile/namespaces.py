# ok: makes namespaces, to be root in them
import ctypes
import os

libc = ctypes.CDLL(None)
for kind in (0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x02000000):
    if libc.unshare(kind) == 0:
        print("ESCAPED unshare", hex(kind))
    if (pid := libc.syscall(56, kind | 17, 0, 0, 0, 0)) == 0:
        os._exit(0)
    elif pid > 0:
        print("ESCAPED clone", hex(kind))
for name in ("user", "pid", "net", "mnt"):
    try:
        if libc.setns(os.open(f"/proc/1/ns/{name}", os.O_RDONLY), 0) == 0:
            print("ESCAPED setns", name)
    except OSError:
        pass
