# dhow. `make help` lists the targets.

PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      ?= go
PKG     ?= ./...
# Packages are tested side by side on the cores there are; kernel tests of one package run one after the other.
TESTFLAGS ?=

export CGO_ENABLED ?= 0
# deps puts a Go here where the distribution's is too old.
export PATH := $(CURDIR)/build/go/bin:$(PATH):/usr/local/go/bin

.DEFAULT_GOAL := help
.PHONY: help build demo test race e2e fuzz bench lint images deps install uninstall clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/dhow and bin/dhow-shim
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/dhow ./cmd/dhow-shim

demo: deps build ## bring up examples/guestbook on this machine and fetch its page (root)
	./examples/demo

test: deps build ## every test, the ones that need root and real images too (root)
	@./tests/deps test
	./tests/run $(PKG)
	./tests/cgroup2

race: deps build ## unit tests with the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race -short $(TESTFLAGS) $(PKG)

e2e: deps build ## only the scenarios on real images (root)
	./tests/run ./tests/...

fuzz: ## every fuzz target for FUZZTIME (10s)
	./tests/fuzz

bench: deps build ## the budgets of docs/performance.md, side by side with runc and, where it answers, Docker (root)
	@./tests/deps bench
	$(GO) test -run "^$$" -bench . -benchtime 1x -timeout 45m ./tests/bench
	$(GO) test -run "^$$" -bench Scale -benchtime 1x -timeout 30m ./tests/sim

lint: ## gofmt, go vet, golangci-lint
	./tests/lint

images: deps ## the images of tests and examples: build/images/NAME.tar (root)
	$(GO) run ./tests/images/mkimages

deps: ## install what is missing from the distribution's packages (root)
	@./tests/deps

install: build ## programs, systemd unit and completions below PREFIX (/usr/local)
	install -D -m 0755 bin/dhow $(DESTDIR)$(PREFIX)/bin/dhow
	install -D -m 0755 bin/dhow-shim $(DESTDIR)$(PREFIX)/bin/dhow-shim
	install -d $(DESTDIR)/etc/systemd/system
	sed 's,@PREFIX@,$(PREFIX),' internal/systemd/dhow.service > $(DESTDIR)/etc/systemd/system/dhow.service
	install -d $(DESTDIR)/usr/share/bash-completion/completions $(DESTDIR)/usr/share/zsh/vendor-completions $(DESTDIR)/usr/share/fish/vendor_completions.d
	bin/dhow completion bash > $(DESTDIR)/usr/share/bash-completion/completions/dhow
	bin/dhow completion zsh > $(DESTDIR)/usr/share/zsh/vendor-completions/_dhow
	bin/dhow completion fish > $(DESTDIR)/usr/share/fish/vendor_completions.d/dhow.fish
	@[ -n "$(DESTDIR)" ] || getent group dhow >/dev/null || groupadd --system dhow # may use the socket
	@echo 'installed; start it with: systemctl daemon-reload && systemctl enable --now dhow'

uninstall: ## remove what install put there; data in /var/lib/dhow stays
	rm -f $(DESTDIR)$(PREFIX)/bin/dhow $(DESTDIR)$(PREFIX)/bin/dhow-shim $(DESTDIR)/etc/systemd/system/dhow.service
	rm -f $(DESTDIR)/usr/share/bash-completion/completions/dhow $(DESTDIR)/usr/share/zsh/vendor-completions/_dhow $(DESTDIR)/usr/share/fish/vendor_completions.d/dhow.fish

clean: ## remove bin and the built images
	rm -rf bin build
