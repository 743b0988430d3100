# What people expect of make; everything here is one command that can be run without it.
VERSION ?=

.PHONY: build test generate release

build:
	go build -o bin/ ./cmd/devlxd ./cmd/devlxd-load

test:
	go test ./...

# Man pages, completions and docs/cli, after a change of a command.
generate:
	go test ./cmd/... -run TestReference -update

# Binaries, packages, checksums in dist: make release VERSION=0.1.0
release:
	go run ./packaging/release $(if $(VERSION),--version $(VERSION))
