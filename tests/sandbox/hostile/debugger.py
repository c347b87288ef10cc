# ok: traces and writes into other processes
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
for request, pid in ((0, 0), (16, 1), (16, os.getppid()), (0x4206, 1)):
    if libc.ptrace(request, pid, 0, 0) != -1:
        print("ESCAPED", request)
if libc.process_vm_readv(1, None, 0, None, 0, 0) != -1:
    print("ESCAPED")
