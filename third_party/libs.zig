//! The libraries that are built from pinned source (see build.zig.zon): which files, with which configuration.
//!
//! Each function returns a static library and the folders its users put on their include path, as system
//! folders, so that our warnings stay ours. Nothing here is built before something links it.
const std = @import("std");
const LazyPath = std.Build.LazyPath;
const Compile = std.Build.Step.Compile;

pub const Options = struct {
    target: std.Build.ResolvedTarget,
    optimize: std.builtin.OptimizeMode,
    asan: bool = false,
    tsan: bool = false,
    fuzz: bool = false,
    /// Where the system's libc is; null lets zig ask `cc`, or take its own for another target.
    libc: ?LazyPath = null,
};

pub const Lib = struct {
    lib: *Compile,
    include: []const LazyPath,
};

/// An empty module for C files. `hardened` is off only where there is no libc to call on a smashed stack.
pub fn module(b: *std.Build, o: Options, sanitize_c: bool, hardened: bool) *std.Build.Module {
    return b.createModule(.{
        .target = o.target,
        .optimize = o.optimize,
        .link_libc = true,
        .pic = true,
        .sanitize_c = if (sanitize_c) .full else .off,
        .sanitize_thread = o.tsan,
        .stack_protector = hardened,
        .omit_frame_pointer = if (o.asan or o.tsan) false else null,
    });
}

/// `base` and what the options of this build add to the flags of every C file.
pub fn flags(b: *std.Build, o: Options, base: []const []const u8) []const []const u8 {
    var list: std.ArrayList([]const u8) = .empty;
    const a = b.allocator;
    list.appendSlice(a, base) catch @panic("OOM");
    if (o.asan) list.append(a, "-fsanitize=address") catch @panic("OOM");
    if (o.fuzz) list.append(a, "-fsanitize=fuzzer-no-link") catch @panic("OOM");
    if (o.optimize != .Debug and !o.asan and !o.tsan)
        list.appendSlice(a, &.{ "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2" }) catch @panic("OOM");
    return list.items;
}

pub fn static(b: *std.Build, o: Options, name: []const u8, m: *std.Build.Module) *Compile {
    const lib = b.addLibrary(.{ .name = name, .root_module = m });
    lib.setLibCFile(o.libc);
    lib.link_function_sections = true;
    lib.link_data_sections = true;
    return lib;
}

fn dup(b: *std.Build, paths: []const LazyPath) []const LazyPath {
    return b.allocator.dupe(LazyPath, paths) catch @panic("OOM");
}

pub fn uring(b: *std.Build, o: Options) Lib {
    const dep = b.dependency("liburing", .{});
    // Without libc liburing saves the errno detour; its own system calls know nothing of sanitizers.
    const nolibc = !o.tsan and !o.asan and switch (o.target.result.cpu.arch) {
        .x86_64, .aarch64, .riscv64 => true,
        else => false,
    };
    const gen = b.addWriteFiles();
    _ = gen.add("liburing/io_uring_version.h",
        \\#ifndef LIBURING_VERSION_H
        \\#define LIBURING_VERSION_H
        \\#define IO_URING_VERSION_MAJOR 2
        \\#define IO_URING_VERSION_MINOR 15
        \\#endif
        \\
    );
    _ = gen.add("liburing/compat.h",
        \\#ifndef LIBURING_COMPAT_H
        \\#define LIBURING_COMPAT_H
        \\#include <linux/time_types.h>
        \\#define UAPI_LINUX_IO_URING_H_SKIP_LINUX_TIME_TYPES_H 1
        \\#include <linux/openat2.h>
        \\#include <linux/futex.h>
        \\#include <linux/ioctl.h>
        \\#ifndef BLOCK_URING_CMD_DISCARD
        \\#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
        \\#endif
        \\#endif
        \\
    );
    const include = dup(b, &.{ dep.path("src/include"), gen.getDirectory() });
    const m = module(b, o, false, false);
    for (include) |dir| m.addSystemIncludePath(dir);
    const base = [_][]const u8{
        "-std=gnu99",             "-D_GNU_SOURCE",       "-D_LARGEFILE_SOURCE",
        "-D_FILE_OFFSET_BITS=64", "-DLIBURING_INTERNAL",
    };
    const files = [_][]const u8{ "setup.c", "queue.c", "register.c", "syscall.c", "version.c" };
    if (nolibc) {
        m.addCMacro("CONFIG_NOLIBC", "1");
        m.addCSourceFiles(.{
            .root = dep.path("src"),
            .files = &(files ++ [_][]const u8{"nolibc.c"}),
            .flags = flags(b, o, &(base ++ [_][]const u8{ "-ffreestanding", "-fno-builtin" })),
        });
    } else m.addCSourceFiles(.{ .root = dep.path("src"), .files = &files, .flags = flags(b, o, &base) });
    return .{ .lib = static(b, o, "uring", m), .include = include };
}

pub fn hiredis(b: *std.Build, o: Options) Lib {
    const dep = b.dependency("hiredis", .{});
    const m = module(b, o, false, true);
    m.addCSourceFiles(.{
        .root = dep.path(""),
        .files = &.{ "alloc.c", "async.c", "hiredis.c", "net.c", "read.c", "sds.c", "sockcompat.c", "ssl.c" },
        .flags = flags(b, o, &.{"-std=gnu99"}),
    });
    // Users write <hiredis/hiredis.h>, as with the distribution's package.
    const include = b.addWriteFiles();
    for ([_][]const u8{ "alloc.h", "async.h", "hiredis.h", "hiredis_ssl.h", "read.h", "sds.h", "sockcompat.h" }) |h|
        _ = include.addCopyFile(dep.path(h), b.fmt("hiredis/{s}", .{h}));
    return .{ .lib = static(b, o, "hiredis", m), .include = dup(b, &.{include.getDirectory()}) };
}

pub fn msgpack(b: *std.Build, o: Options) Lib {
    const dep = b.dependency("msgpack_c", .{});
    const big: i64 = @intFromBool(o.target.result.cpu.arch.endian() == .big);
    const include = b.addWriteFiles();
    _ = include.addCopyDirectory(dep.path("include"), "", .{ .include_extensions = &.{".h"} });
    inline for (.{ "sysdep.h", "pack_template.h" }) |name| {
        const header = b.addConfigHeader(
            .{ .style = .{ .cmake = dep.path("cmake/" ++ name ++ ".in") }, .include_path = "msgpack/" ++ name },
            .{ .MSGPACK_ENDIAN_BIG_BYTE = big, .MSGPACK_ENDIAN_LITTLE_BYTE = 1 - big },
        );
        _ = include.addCopyFile(header.getOutputFile(), "msgpack/" ++ name);
    }
    const m = module(b, o, false, true);
    m.addSystemIncludePath(include.getDirectory());
    m.addCSourceFiles(.{
        .root = dep.path("src"),
        .files = &.{ "objectc.c", "unpack.c", "version.c", "vrefbuffer.c", "zone.c" },
        .flags = flags(b, o, &.{"-std=gnu99"}),
    });
    return .{ .lib = static(b, o, "msgpackc", m), .include = dup(b, &.{include.getDirectory()}) };
}

/// Ed25519, SHA-256 and SHA-512, HMAC-SHA256, SipHash, random bytes, constant-time helpers, base64 and hex; nothing else of libsodium.
pub fn sodium(b: *std.Build, o: Options) Lib {
    const dep = b.dependency("libsodium", .{});
    const root = dep.path("src/libsodium");
    const gen = b.addWriteFiles();
    _ = gen.addCopyDirectory(root.path(b, "include"), "", .{ .include_extensions = &.{".h"} });
    _ = gen.add("sodium/version.h",
        \\#ifndef sodium_version_H
        \\#define sodium_version_H
        \\#include "export.h"
        \\#define SODIUM_VERSION_STRING "1.0.18"
        \\#define SODIUM_LIBRARY_VERSION_MAJOR 10
        \\#define SODIUM_LIBRARY_VERSION_MINOR 3
        \\SODIUM_EXPORT const char *sodium_version_string(void);
        \\SODIUM_EXPORT int sodium_library_version_major(void);
        \\SODIUM_EXPORT int sodium_library_version_minor(void);
        \\SODIUM_EXPORT int sodium_library_minimal(void);
        \\#endif
        \\
    );
    // sodium_init() lets each family pick its fastest code; these families are not built.
    const no_pick = b.addWriteFiles().add("no_pick.c",
        \\int _crypto_pwhash_argon2_pick_best_implementation(void) { return 0; }
        \\int _crypto_generichash_blake2b_pick_best_implementation(void) { return 0; }
        \\int _crypto_onetimeauth_poly1305_pick_best_implementation(void) { return 0; }
        \\int _crypto_scalarmult_curve25519_pick_best_implementation(void) { return 0; }
        \\int _crypto_stream_salsa20_pick_best_implementation(void) { return 0; }
        \\
    );
    const include = dup(b, &.{gen.getDirectory()});
    const m = module(b, o, false, true);
    m.addSystemIncludePath(gen.getDirectory());
    m.addSystemIncludePath(gen.getDirectory().path(b, "sodium"));
    const f = flags(b, o, &.{
        "-std=gnu99",                 "-D_GNU_SOURCE=1",         "-DCONFIGURED=1",        "-DDEV_MODE=0",
        "-DNATIVE_LITTLE_ENDIAN=1",   "-DHAVE_TI_MODE=1",        "-DHAVE_PTHREAD=1",      "-DHAVE_ATOMIC_OPS=1",
        "-DHAVE_C11_MEMORY_FENCES=1", "-DHAVE_INLINE_ASM=1",     "-DHAVE_WEAK_SYMBOLS=1", "-DHAVE_EXPLICIT_BZERO=1",
        "-DHAVE_SYS_MMAN_H=1",        "-DHAVE_MMAP=1",           "-DHAVE_MLOCK=1",        "-DHAVE_MADVISE=1",
        "-DHAVE_MPROTECT=1",          "-DHAVE_POSIX_MEMALIGN=1", "-DHAVE_NANOSLEEP=1",    "-DHAVE_GETPID=1",
        "-DHAVE_SYS_RANDOM_H=1",      "-DHAVE_GETRANDOM=1",      "-Wno-unknown-pragmas",
    });
    m.addCSourceFile(.{ .file = no_pick, .flags = f });
    m.addCSourceFiles(.{
        .root = root,
        .flags = f,
        .files = &.{
            "crypto_auth/hmacsha256/auth_hmacsha256.c",
            "crypto_core/ed25519/ref10/ed25519_ref10.c",
            "crypto_hash/crypto_hash.c",
            "crypto_hash/sha256/cp/hash_sha256_cp.c",
            "crypto_hash/sha256/hash_sha256.c",
            "crypto_hash/sha512/cp/hash_sha512_cp.c",
            "crypto_hash/sha512/hash_sha512.c",
            "crypto_shorthash/crypto_shorthash.c",
            "crypto_shorthash/siphash24/ref/shorthash_siphash24_ref.c",
            "crypto_shorthash/siphash24/shorthash_siphash24.c",
            "crypto_sign/crypto_sign.c",
            "crypto_sign/ed25519/ref10/keypair.c",
            "crypto_sign/ed25519/ref10/open.c",
            "crypto_sign/ed25519/ref10/sign.c",
            "crypto_sign/ed25519/sign_ed25519.c",
            "crypto_stream/chacha20/ref/chacha20_ref.c", // randombytes_buf_deterministic()
            "crypto_stream/chacha20/stream_chacha20.c",
            "crypto_verify/sodium/verify.c",
            "randombytes/randombytes.c",
            "randombytes/sysrandom/randombytes_sysrandom.c",
            "sodium/codecs.c",
            "sodium/core.c",
            "sodium/runtime.c",
            "sodium/utils.c",
            "sodium/version.c",
        },
    });
    return .{ .lib = static(b, o, "sodium", m), .include = include };
}

/// What only libssh needs to be told.
pub const SshOptions = struct {
    /// ssh/patches/*.patch in the order they apply.
    patches: []const LazyPath,
    /// Our implementation of libssh/socket.h, in memory; null while there is none: libssh's own is built.
    socket: ?struct { root: LazyPath, file: LazyPath, flags: []const []const u8 },
};

pub const Ssh = struct {
    lib: *Compile,
    /// The public headers.
    include: []const LazyPath,
    /// Those, libssh's internal ones and its config.h.
    internal: []const LazyPath,
};

pub fn ssh(b: *std.Build, o: Options, so: SshOptions) Ssh {
    // The source with our patches, as a copy. A patch that does not apply, or not exactly, ends the build.
    const copy = b.addSystemCommand(&.{
        "sh",           "-euc",
        \\src=$1 out=$2; shift 2
        \\cp -R "$src/." "$out/"
        \\for p in "$@"; do
        \\  patch -d "$out" -p1 --batch --forward --fuzz=0 --no-backup-if-mismatch <"$p" >"$out/patch.log" 2>&1 || {
        \\    cat "$out/patch.log" >&2; echo "patch does not apply to libssh: $p" >&2; exit 1; }
        \\done
        \\rm -f "$out/patch.log"
        ,
        "patch-libssh",
    });
    copy.setName("patch libssh");
    copy.addDirectoryArg(b.dependency("libssh", .{}).path(""));
    const source = copy.addOutputDirectoryArg("libssh");
    for (so.patches) |p| copy.addFileArg(p);
    copy.expectExitCode(0);

    const config = b.addConfigHeader(.{ .include_path = "config.h" }, .{
        .PACKAGE = "libssh",
        .VERSION = "0.12.2",
        .GLOBAL_CONF_DIR = "/etc/ssh",
        .GLOBAL_BIND_CONFIG = "/etc/ssh/libssh_server_config",
        .GLOBAL_CLIENT_CONFIG = "/etc/ssh/ssh_config",
        // Not WITH_GEX, WITH_ZLIB, WITH_SFTP, WITH_EXEC, WITH_GSSAPI, WITH_PCAP: what is not there cannot be reached.
        .WITH_SERVER = 1,
    });
    inline for (.{
        "ARPA_INET_H",           "GLOB_H",               "PTY_H",                          "UTMP_H",                "SYS_TIME_H",
        "TERMIOS_H",             "UNISTD_H",             "STDINT_H",                       "IFADDRS_H",             "LIBCRYPTO",
        "OPENSSL_AES_H",         "OPENSSL_DES_H",        "OPENSSL_ECDH_H",                 "OPENSSL_EC_H",          "OPENSSL_ECDSA_H",
        "OPENSSL_ECC",           "ECC",                  "OPENSSL_EVP_CHACHA20",           "OPENSSL_EVP_KDF_CTX",   "GLOB_GL_FLAGS_MEMBER",
        "SNPRINTF",              "VSNPRINTF",            "ISBLANK",                        "STRNCPY",               "STRNDUP",
        "CFMAKERAW",             "GETADDRINFO",          "POLL",                           "SELECT",                "CLOCK_GETTIME",
        "STRTOULL",              "GLOB",                 "EXPLICIT_BZERO",                 "PTHREAD",               "GCC_THREAD_LOCAL_STORAGE",
        "FALLTHROUGH_ATTRIBUTE", "UNUSED_ATTRIBUTE",     "WEAK_ATTRIBUTE",                 "CONSTRUCTOR_ATTRIBUTE", "DESTRUCTOR_ATTRIBUTE",
        "COMPILER__FUNC__",      "COMPILER__FUNCTION__", "GCC_VOLATILE_MEMORY_PROTECTION",
    }) |name| config.addValue("HAVE_" ++ name, i64, 1);
    const version = b.addConfigHeader(.{
        .style = .{ .cmake = b.dependency("libssh", .{}).path("include/libssh/libssh_version.h.cmake") },
        .include_path = "libssh/libssh_version.h",
    }, .{ .libssh_VERSION_MAJOR = 0, .libssh_VERSION_MINOR = 12, .libssh_VERSION_PATCH = 2 });

    const public = b.addWriteFiles();
    for ([_][]const u8{ "callbacks.h", "legacy.h", "libssh.h", "server.h", "ssh2.h" }) |h|
        _ = public.addCopyFile(source.path(b, b.fmt("include/libssh/{s}", .{h})), b.fmt("libssh/{s}", .{h}));
    _ = public.addCopyFile(version.getOutputFile(), "libssh/libssh_version.h");

    const internal = dup(b, &.{ source.path(b, "include"), config.getOutputDir(), version.getOutputDir() });
    const m = module(b, o, false, true);
    for (internal) |dir| m.addSystemIncludePath(dir);
    m.addCSourceFiles(.{ .root = source.path(b, "src"), .files = &ssh_sources, .flags = flags(b, o, &ssh_flags) });
    if (so.socket) |s| {
        m.addIncludePath(s.root);
        m.addCSourceFile(.{ .file = s.file, .flags = s.flags });
    } else m.addCSourceFile(.{ .file = source.path(b, "src/socket.c"), .flags = flags(b, o, &ssh_flags) });
    return .{
        .lib = static(b, o, "ssh", m),
        .include = dup(b, &.{public.getDirectory()}),
        .internal = internal,
    };
}

const ssh_flags = [_][]const u8{ "-std=gnu99", "-D_GNU_SOURCE", "-DLIBSSH_EXPORTS", "-Wno-deprecated-declarations" };

/// Without what only a client or libssh's own sockets, sftp, scp and configuration files need.
const ssh_sources = [_][]const u8{
    "agent.c",                 "auth.c",              "base64.c",          "bignum.c",                "buffer.c",
    "callbacks.c",             "channels.c",          "client.c",          "config.c",                "config_parser.c",
    "crypto_common.c",         "curve25519.c",        "dh.c",              "ecdh.c",                  "error.c",
    "external/bcrypt_pbkdf.c", "external/blowfish.c", "gzip.c",            "hybrid_mlkem.c",          "init.c",
    "kdf.c",                   "kex.c",               "knownhosts.c",      "log.c",                   "match.c",
    "messages.c",              "misc.c",              "mlkem.c",           "options.c",               "packet.c",
    "packet_cb.c",             "packet_crypt.c",      "pki.c",             "pki_container_openssh.c", "pki_context.c",
    "pki_ed25519_common.c",    "poll.c",              "session.c",         "sntrup761.c",             "string.c",
    "threads.c",               "threads/noop.c",      "threads/pthread.c", "token.c",                 "ttyopts.c",
    "wrapper.c",
} ++ [_][]const u8{ // over libcrypto
    "curve25519_crypto.c", "dh_crypto.c", "ecdh_crypto.c", "external/sntrup761.c", "getrandom_crypto.c",
    "libcrypto.c",         "md_crypto.c", "pki_crypto.c",  "threads/libcrypto.c",
} ++ [_][]const u8{ // ML-KEM: libssh's own copy (libcrux), since libcrypto has none before OpenSSL 3.5
    "external/libcrux_mlkem768_sha3.c", "mlkem_native.c",
} ++ [_][]const u8{ "bind.c", "server.c" };
