# exit: memory that is no process's own data
import mmap

held = []
while True:
    shared = mmap.mmap(-1, 16 << 20)
    shared.write(b"x" * (16 << 20))
    held.append(shared)
