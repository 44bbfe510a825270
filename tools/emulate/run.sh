#!/usr/bin/env bash
# Runs the kernels' tests on an emulated processor: see README.md.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=${EMULATE_WORK:-$here/../../target/emulate}
processors="all avx512 avx_vnni"
limit_s=3600
program=
while [ $# -gt 0 ]; do
  case $1 in
    --processor) processors=$2; shift 2 ;;
    --program) program=$2; shift 2 ;;
    --limit) limit_s=$2; shift 2 ;;
    --) shift; break ;;
    -h | --help) sed -n '3,$p' "$here/README.md"; exit ;;
    *) break ;;
  esac
done
mkdir -p "$work"
work=$(cd "$work" && pwd)

# What is added to a Skylake-X, or taken from it. Bochs has newer processors, but Linux does not start on them.
model() {
  local wide=avx512,avx512cd,avx512dq,avx512bw
  case $1 in
    all) echo 'corei7_skylake_x, add_features="avx512vnni,avx512bf16,avx_vnni"' ;;
    vnni) echo 'corei7_skylake_x, add_features="avx512vnni"' ;;
    avx512) echo 'corei7_skylake_x' ;;
    avx_vnni) echo "corei7_skylake_x, add_features=\"avx_vnni\", exclude_features=\"$wide\"" ;;
    avx2) echo "corei7_skylake_x, exclude_features=\"$wide\"" ;;
    *) echo "$1 is no processor of this script: all, vnni, avx512, avx_vnni, avx2" >&2; exit 2 ;;
  esac
}

need() {
  command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 2; }
}
need g++ g++
need make make
need cpio cpio
need genisoimage genisoimage
[ -f /usr/lib/ISOLINUX/isolinux.bin ] || { echo "isolinux is missing: apt-get install isolinux" >&2; exit 2; }

# Bochs 3.0 of Debian 13, since older ones know no bfloat16; from source, since its packages draw in a desktop.
bochs() {
  [ -x "$work/bochs/bochs" ] && return
  echo "== building Bochs" >&2
  rm -rf "$work/apt" "$work/source"
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/source" "$work/bochs"
  local mirror
  # shellcheck disable=SC2016  # apt's own names
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | grep -v security | head -n 1)
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb-src [signed-by=$keys] $mirror trixie main" >"$work/apt/sources.list"
  cat >"$work/apt/apt.conf" <<EOF
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::Lists "$work/apt/lists";
Dir::Cache "$work/apt/cache";
EOF
  (
    cd "$work/apt"
    export APT_CONFIG=$work/apt/apt.conf
    apt-get -qq update
    apt-get -qq source --tar-only --download-only bochs
    tar xf bochs_*.orig.tar.* -C "$work/source" --strip-components 1
    cd "$work/source"
    # 3.0 takes the displacement of this instruction's operand for one of four bytes; it is one of a whole vector (Intel's
    # manual: tuple type "full").
    sed -i '/VDPBF16PS_VpsHdqWdq_Kmask/s/OP_mVdq32/OP_mVdq/' cpu/decoder/ia_opcodes_evex.def
    # A Skylake-X reports what newer processors have as soon as it is asked to have it.
    sed -i '/::get_std_cpuid_leaf_7(/,/^}/ {
      /report max sub-leaf/s/eax = 0/eax = 1/
      /get_std_cpuid_leaf_7_ebx/ { n; s/= 0/= get_std_cpuid_leaf_7_ecx()/ }
      s/^  default:/  case 1:\n    leaf->eax = get_std_cpuid_leaf_7_subleaf_1_eax();\n    leaf->ebx = leaf->ecx = leaf->edx = 0;\n    break;\n&/
    }' cpu/cpudb/intel/corei7_skylake-x.cc
    grep -q leaf_7_subleaf_1_eax cpu/cpudb/intel/corei7_skylake-x.cc
    # Its speed display prints from a signal handler and can wait for itself for ever.
    ./configure --with-nogui --disable-plugins --enable-cpu-level=6 --enable-x86-64 --enable-avx --enable-evex \
      --enable-memtype --enable-pci --enable-all-optimizations --disable-show-ips CFLAGS=-O2 CXXFLAGS=-O2
    make -j"$(nproc)"
    cp bios/*.bin-* bochs "$work/bochs/"
  ) >"$work/bochs.log" 2>&1 || { tail -n 20 "$work/bochs.log" >&2; exit 2; }
}

linux() {
  [ -f "$work/linux" ] && return
  echo "== fetching a kernel" >&2
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  (cd "$work" && apt-get -qq download "$package" && dpkg -x linux-image-*.deb kernel)
  cp "$work"/kernel/boot/vmlinuz-* "$work/linux"
}

# The tests, as release builds compile them.
tests() {
  cargo test --manifest-path "$here/kernels/Cargo.toml" --target-dir "$work/cargo" --release --no-run \
    --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

# A disc that starts the kernel with a memory file system: the program, its libraries, and what to call it with.
disc() {
  local root=$1/root iso=$1/iso
  mkdir -p "$root"/{proc,sys,dev,tmp,tests} "$iso"
  cc -O2 -static -o "$root/init" "$here/init.c"
  strip -o "$root/tests/program" "$program"
  ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root/$(dirname "$library")"
    cp -L "$library" "$root/$library"
  done
  printf '%s\n' /tests/program "${@:2}" >"$root/arguments"
  (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$iso/initrd"
  cp "$work/linux" /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$iso/"
  # The clock of the machine counts instructions; what the processor claims would make every wait a hundred times longer.
  cat >"$iso/isolinux.cfg" <<EOF
default linux
label linux
kernel linux
append initrd=initrd console=ttyS0 nokaslr mitigations=off lsm= apparmor=0 audit=0 nopcid nopku noxsaves ibt=off tsc=reliable tsc_early_khz=20000 lapic=notscdeadline random.trust_cpu=on
EOF
  genisoimage -quiet -o "$1/disc.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$iso"
}

machine() {
  local dir=$1
  cat >"$dir/bochsrc" <<EOF
config_interface: textconfig
display_library: nogui
cpu: model=$(model "$2"), count=1, ips=20000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=1024, host=1024
romimage: file=$(echo "$work"/bochs/bios.bin-*)
vgaromimage: file=$(echo "$work"/bochs/vgabios-cirrus.bin-*)
vga: extension=cirrus
pci: enabled=1, chipset=i440fx
ata0-master: type=cdrom, path=$dir/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$dir/console.txt
log: $dir/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
clock: sync=none
EOF
  rm -f "$dir/console.txt"
  # Without a terminal, whose settings it would change.
  (cd "$dir" && BXSHARE=$work/bochs setsid -w timeout "$limit_s" "$work/bochs/bochs" -q -f bochsrc) \
    >"$dir/bochs.out" 2>&1 </dev/null || true
  sed -n '/^running [0-9]* test/,$p' "$dir/console.txt" | tr -d '\r'
  grep -q '^ended with 0' <(tr -d '\r' <"$dir/console.txt")
}

bochs
linux
[ -n "$program" ] || program=$(tests)
failed=0
for processor in $processors; do
  echo "== $processor"
  dir=$work/$processor
  rm -rf "$dir"
  mkdir -p "$dir"
  disc "$dir" --test-threads=1 --nocapture "$@"
  machine "$dir" "$processor" || { echo "failed: see $dir/console.txt and $dir/bochs.log"; failed=1; }
done
exit $failed
