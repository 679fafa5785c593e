#!/bin/sh
# Sign every Mach-O file of a bundle on a Mac, in parallel, the deepest first.
#
#   sign-bundle.sh DIR LIST.tsv IDENTITY ENTITLEMENTS.plist [KEYCHAIN]
#
# DIR holds the bundle, LIST is signed/mac-arm64.tsv: kind, sha256, digest, path, tab between.
# Each signature asks Apple's server for a timestamp, which is what takes long: SIDECAR_SIGN_JOBS
# of them, 8 unless said, at a time. What IDENTITY has signed already is left alone, so that the
# script can be run again after a failure. IDENTITY is a name, a certificate's SHA-1, or - for none.
set -eu

if [ "${1:-}" = --one ]; then
    file=$2
    kind=$3
    case $SIDECAR_IDENTITY in
    -) requirement= ;;
    *[!0-9A-Fa-f]*) requirement="certificate leaf[subject.CN] = \"$SIDECAR_IDENTITY\"" ;;
    *) requirement="certificate leaf = H\"$SIDECAR_IDENTITY\"" ;;
    esac
    if [ -n "$requirement" ] && codesign --verify --strict "-R=$requirement" "$file" 2>/dev/null; then
        exit 0
    fi
    set -- --force --sign "$SIDECAR_IDENTITY"
    if [ "$SIDECAR_IDENTITY" = - ]; then
        set -- "$@" --timestamp=none
    else
        set -- "$@" --timestamp --options runtime
    fi
    if [ -n "$SIDECAR_KEYCHAIN" ]; then
        set -- "$@" --keychain "$SIDECAR_KEYCHAIN"
    fi
    # Only programs have rights; a library has those of the program that loads it.
    if [ "$kind" = program ]; then
        set -- "$@" --entitlements "$SIDECAR_ENTITLEMENTS"
    fi
    for pause in 1 2 4 8 none; do
        if codesign "$@" "$file"; then
            exit 0
        fi
        # The timestamp server turns some away when many come.
        [ "$pause" = none ] || sleep "$pause"
    done
    echo "error: $file could not be signed; codesign says why above" >&2
    exit 1
fi

if [ $# -lt 4 ]; then
    echo "usage: sign-bundle.sh DIR LIST.tsv IDENTITY ENTITLEMENTS.plist [KEYCHAIN]" >&2
    exit 2
fi
program=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
list=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
SIDECAR_IDENTITY=$3
SIDECAR_ENTITLEMENTS=$(cd "$(dirname "$4")" && pwd)/$(basename "$4")
SIDECAR_KEYCHAIN=${5:-}
export SIDECAR_IDENTITY SIDECAR_ENTITLEMENTS SIDECAR_KEYCHAIN
cd "$1"

# The list is sorted so: the libraries, then the programs, each the deepest first. Every depth is
# done before the next begins; within one, nothing contains anything else.
awk -F '\t' '{ print $1 "/" split($4, parts, "/") }' "$list" | uniq | while read -r wave; do
    awk -F '\t' -v wave="$wave" \
        '$1 "/" split($4, parts, "/") == wave { print $4; print $1 }' "$list" |
        tr '\n' '\0' |
        xargs -0 -n 2 -P "${SIDECAR_SIGN_JOBS:-8}" /bin/sh "$program" --one
done
echo "signed: $(wc -l <"$list" | tr -d ' ') Mach-O files"
