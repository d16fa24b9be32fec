#!/usr/bin/env bash
# Build llama.cpp, and the programs `greedy`, `logits` and `measure`, to compare with.
#
#   build_llama_cpp.sh DIR
#
# llama.cpp's source comes inside the source package of llama-cpp-python, fetched
# with pip from whatever index pip is configured for. Everything is put into DIR,
# which is created; running it again continues where it stopped. Results:
#
#   DIR/greedy, DIR/logits, DIR/measure    the .cpp files from beside this script
#   DIR/build/bin/llama-*          llama.cpp's own tools
#   DIR/source/gguf-py, DIR/source/convert_hf_to_gguf.py
#
# Needs python3 with venv and a C and a C++17 compiler; cmake and ninja come from
# pip as well. CPU only, optimised for the machine it runs on.
#
# Environment: JOBS      compiler processes at a time (all processors)
#              TARGETS   what to build of llama.cpp
#              PYTHON    the interpreter to start from (python3)
set -euo pipefail

# The version and its checksum belong together: what is compared with stays the same.
version=0.3.36
checksum=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
jobs=${JOBS:-$(nproc)}
read -r -a targets <<<"${TARGETS:-llama llama-completion llama-simple llama-tokenize llama-quantize llama-bench}"

# A venv of its own for the build tools. scikit-build-core is there for one reason:
# pip asks a source package for its metadata even when it only downloads it. With
# --no-build-isolation it uses the one here, instead of first building cmake.
if [ ! -x "$dir/venv/bin/ninja" ]; then
    "${PYTHON:-python3}" -m venv "$dir/venv"
    "$dir/venv/bin/python" -m pip install --quiet scikit-build-core cmake ninja
fi
export PATH="$dir/venv/bin:$PATH"

archive=$dir/llama_cpp_python-$version.tar.gz
if [ ! -f "$archive" ]; then
    # Into a folder beside it first: a file that stopped half way must not stay.
    mkdir -p "$dir/download"
    python -m pip download --quiet --no-deps --no-build-isolation \
        --no-binary llama-cpp-python --dest "$dir/download" "llama-cpp-python==$version"
    mv "$dir/download/$(basename "$archive")" "$archive"
fi
echo "$checksum  $archive" | sha256sum --check --quiet

if [ ! -d "$dir/source" ]; then
    rm -rf "$dir/unpack"
    mkdir "$dir/unpack"
    tar -xzf "$archive" -C "$dir/unpack" --strip-components=3 \
        "llama_cpp_python-$version/vendor/llama.cpp"
    mv "$dir/unpack" "$dir/source"
fi

# No server, no web interface and no download code: nothing here uses the network.
nice -n 19 cmake -S "$dir/source" -B "$dir/build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release \
    -DGGML_NATIVE=ON \
    -DGGML_CCACHE=OFF \
    -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON \
    -DLLAMA_CURL=OFF \
    -DLLAMA_OPENSSL=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF \
    -DLLAMA_BUILD_SERVER=OFF \
    -DLLAMA_BUILD_APP=OFF \
    -DLLAMA_BUILD_TESTS=OFF
nice -n 19 ninja -C "$dir/build" -j "$jobs" "${targets[@]}"

# $ORIGIN: a program finds its libraries wherever DIR is moved to.
for program in greedy logits measure; do
    nice -n 19 "${CXX:-c++}" -O2 -std=c++17 -Wall -Wextra \
        -I "$dir/source/include" -I "$dir/source/ggml/include" \
        "$here/$program.cpp" -o "$dir/$program" \
        -L "$dir/build/bin" -lllama -lggml -lggml-base "-Wl,-rpath,\$ORIGIN/build/bin"
    echo "built: $dir/$program"
done
