# exit: shared memory of a device, written and let go of
import mmap
import os

device, held = os.open("/dev/zero", os.O_RDWR), []
for _ in range(40):
    shared = mmap.mmap(device, 16 << 20)
    shared.write(b"x" * (16 << 20))
    shared.madvise(mmap.MADV_DONTNEED)
    held.append(shared)
print("ESCAPED")
