# memory: a few megabytes that unpack to gigabytes
import gzip

gzip.decompress(gzip.compress(bytes(1 << 20)) * 4000)
