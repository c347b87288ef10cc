# ok: sets the time and the limits
import resource
import time

try:
    time.clock_settime(time.CLOCK_REALTIME, 0)
    print("ESCAPED")
except OSError:
    pass
for which in (
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_FSIZE,
):
    try:
        resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("ESCAPED", which)
    except (ValueError, OSError):
        pass
