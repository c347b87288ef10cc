# ok: hands megabytes to a program by its arguments and environment
import os

for size in (1 << 20, 1 << 17, (1 << 17) - 1):
    try:
        os.execve("/usr/bin/true", ["true", *["x" * size] * 8], {"Y": "y" * size})
    except OSError:
        pass
