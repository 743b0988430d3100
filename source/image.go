package source

import "bytes"

// ImageHeadLen is how many bytes of an image file ImageExt looks at: up to the end of "ustar" in a tar header.
const ImageHeadLen = 262

// ImageExt returns the file extension of an image by the magic bytes of a file, in LXD's order (shared/archive.go: DetectCompressionFile);
// "" if there are none. head has ImageHeadLen bytes, zeros after the end of a shorter file.
func ImageExt(head []byte) string {
	for _, m := range [...]struct {
		at    int
		magic string
		ext   string
	}{
		{0, "BZ", ".tar.bz2"},
		{0, "\x1f\x8b", ".tar.gz"},
		{0, "\xfd7zXZ", ".tar.xz"},
		{1, "7zXZ", ".tar.lzma"},
		{0, "\x5d\x00\x00", ".tar.lzma"},
		{257, "ustar", ".tar"},
		{0, "hsqs", ".squashfs"},
		{0, "QFI", ".qcow2"},
		{0, "\x28\xb5\x2f\xfd", ".tar.zst"},
	} {
		if bytes.HasPrefix(head[m.at:], []byte(m.magic)) {
			return m.ext
		}
	}
	return ""
}
