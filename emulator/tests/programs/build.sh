#!/bin/sh
# Rebuilds the committed PTX from the .cu files beside this script. NVCC may name the compiler (13.0).
# A first-line comment `// target: compute_XX` chooses the target; compute_75 is the default.
set -eu
cd "$(dirname "$0")"
for source in *.cu; do
    target=$(sed -n 's,^// target: ,,p' "$source" | head -n 1)
    "${NVCC:-nvcc}" -ptx -lineinfo -std=c++17 -arch="${target:-compute_75}" "$source" -o "${source%.cu}.ptx"
    # Line tables name headers by absolute path; only their base names are stable.
    sed -i -E 's,^(\s*\.file\s+[0-9]+ )"/.*/([^/"]+)",\1"\2",' "${source%.cu}.ptx"
done
