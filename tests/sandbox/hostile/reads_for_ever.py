# ok: waits for input that nobody gives
import sys

sys.stdin.read()
open("/dev/null").read()
