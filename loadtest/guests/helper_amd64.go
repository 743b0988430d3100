package guests

import _ "embed"

// helperELF is built by helper/build.sh.
//
//go:embed helper/guest_amd64.elf
var helperELF []byte
