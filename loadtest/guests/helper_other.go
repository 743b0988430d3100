//go:build !amd64 && !arm64

package guests

// helperELF is empty: Start says that there is no helper for this machine.
var helperELF []byte
