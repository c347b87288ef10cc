# signal: calls the kernel by the numbers of another architecture
import ctypes

ctypes.CDLL(None).syscall(0x40000000 + 39)
