#!/usr/bin/env bash
# Builds guest_amd64.elf and guest_arm64.elf, which the Go package embeds.
#   build.sh          writes them
#   build.sh --check  builds them elsewhere and fails if they differ from those that are here
# Debian packages: gcc and gcc-aarch64-linux-gnu on amd64. The same compiler makes the same bytes; these were made with
# gcc 12.2.0-14+deb12u1 and binutils 2.40-2 of Debian 12.
set -euo pipefail
cd "$(dirname "$0")"

flags=(
	-std=gnu11 -Os -Wall -Wextra -Werror
	-ffreestanding -nostdlib -static -fno-pic -no-pie
	-fno-stack-protector -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -fno-ident
	-ffunction-sections
	-Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,max-page-size=4096 -Wl,-z,norelro -Wl,-z,noexecstack -Wl,--gc-sections
	-s
)

# build ARCH COMPILER FOLDER [FLAG...]
build() {
	local arch=$1 compiler=$2 folder=$3
	shift 3
	command -v "$compiler" >/dev/null || { echo "build.sh: no $compiler: install the Debian package that has it" >&2; exit 2; }
	"$compiler" "${flags[@]}" "$@" -o "$folder/guest_$arch.elf" guest.c job.c spawner.c
}

build_all() {
	local native=gcc
	[ "$(uname -m)" = x86_64 ] || native=x86_64-linux-gnu-gcc
	build amd64 "$native" "$1" -fcf-protection=none
	build arm64 aarch64-linux-gnu-gcc "$1" -mno-outline-atomics
}

case ${1-} in
"")
	build_all .
	;;
--check)
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	build_all "$work"
	for arch in amd64 arm64; do
		cmp "$work/guest_$arch.elf" "guest_$arch.elf" ||
			{ echo "build.sh: guest_$arch.elf is not what $(gcc -dumpfullversion) makes of the sources: run build.sh" >&2; exit 1; }
	done
	;;
*)
	echo "usage: build.sh [--check]" >&2
	exit 2
	;;
esac
