# exit: shared memory that it writes and lets go of, so that it stands in no account
import mmap

held = []
for _ in range(40):
    shared = mmap.mmap(-1, 16 << 20)
    shared.write(b"x" * (16 << 20))
    shared.madvise(mmap.MADV_DONTNEED)
    held.append(shared)
print("ESCAPED")
