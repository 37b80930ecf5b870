# What the other scripts share: where the binaries are, and how they are built. Sourced, not run.

# The Cargo profile of everything the scripts run. `release` is what users get.
profile="${QUARTET_PROFILE:-release}"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
target="${CARGO_TARGET_DIR:-$root/target}"
case "$profile" in
    dev) bin="$target/debug" ;;
    *) bin="$target/$profile" ;;
esac

die() {
    echo "error: $*" >&2
    exit 1
}

# Builds the four services and the command line. Quiet when there is nothing to do.
build() {
    command -v cargo >/dev/null || die "cargo is not on PATH; install a Rust toolchain from https://rustup.rs"
    (cd "$root" && cargo build --locked --quiet --profile "$profile" --bins) ||
        die "the build failed; the compiler's message is above"
}
