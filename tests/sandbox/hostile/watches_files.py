# ok: has the kernel write down what happens to files, thousands of times over
import ctypes

libc = ctypes.CDLL(None)
for call in ("inotify_init", "inotify_init1", "fanotify_init"):
    if getattr(libc, call)(0, 0) != -1:
        print("ESCAPED", call)
