# signal: leaves its memory with whatever takes core dumps on the machine
import os
import resource

# A kernel that hands dumps to a program of the machine does so for any other limit.
if resource.getrlimit(resource.RLIMIT_CORE) != (1, 1):
    print("ESCAPED", flush=True)
os.abort()
