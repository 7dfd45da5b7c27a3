//! zig 0.16.0. The commands are in CONTRIBUTING.md and `./zigw build --help`.
//!
//! A folder's .c files are found when the build starts: a new file needs no line here. What a folder may
//! include is checked by tests/include_graph.py; what it may link is below.
const std = @import("std");
const third = @import("third_party/libs.zig");
const LazyPath = std.Build.LazyPath;
const Compile = std.Build.Step.Compile;
const Options = third.Options;

/// The files of ssh/ that may see libssh's internal headers (`#include "config.h"` first). They are read again
/// at each libssh update. ssh/libssh_socket.c is not among them: it is built into libssh in place of its socket.c.
const libssh_internal = [_][]const u8{ "ssh/auth.c", "ssh/chan.c", "ssh/chan_ask.c", "ssh/conn.c", "ssh/global.c", "ssh/host_certificate.c", "ssh/kex_forget.c", "ssh/packet_out.c", "ssh/rotation.c", "ssh/server.c", "bench/client.c" };

const libssh_socket = "ssh/libssh_socket.c";

/// What is linked with libyaml.
const core_yaml = [_][]const u8{ "core/yaml", "core/settings", "core/policy_read" };

const own_folders = [_][]const u8{ "core", "ring", "ssh", "upstream", "gateway", "procd", "control", "bench", "tests" };

const own_flags = [_][]const u8{
    "-std=gnu11",      "-D_GNU_SOURCE",         "-D_FILE_OFFSET_BITS=64",
    "-UNDEBUG",        "-Wall",                 "-Wextra",
    "-Wshadow",        "-Wvla",                 "-Wstrict-prototypes",
    "-Wpointer-arith", "-Wformat=2",            "-Wmissing-prototypes",
    "-Werror",         "-Wno-unused-parameter", "-DRINGGATE_VERSION=\"" ++ @import("build.zig.zon").version ++ "\"",
};

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const asan = b.option(bool, "asan", "AddressSanitizer and UBSan; programs go to zig-out/asan") orelse false;
    const tsan = b.option(bool, "tsan", "ThreadSanitizer; programs go to zig-out/tsan") orelse false;
    const test_filter = b.option([]const u8, "test", "Only the unit tests, or fuzz targets, whose path contains this");
    const fuzz_seconds = b.option(u32, "fuzz-seconds", "How long each fuzz target runs (default: 20)") orelse 20;
    const optimize = b.option(std.builtin.OptimizeMode, "optimize", "Default: ReleaseFast; with a sanitizer ReleaseSafe") orelse
        if (asan or tsan) std.builtin.OptimizeMode.ReleaseSafe else .ReleaseFast;
    const o: Options = .{ .target = target, .optimize = optimize, .asan = asan, .tsan = tsan, .libc = systemLibc(b, target) };

    const tree: Tree = .init(b, o);
    tree.steps();
    const bin = if (asan) "asan" else if (tsan) "tsan" else "bin";
    const programs = [_]?*Compile{ tree.ringgate(), tree.procd(), tree.ringbench(), tree.control() };
    for ([_][]const u8{ "ringgate", "procd", "ringbench", "ringgate-control" }, programs) |name, maybe| {
        const step = b.step(name, b.fmt("Build {s} into zig-out/{s}", .{ name, bin }));
        const exe = maybe orelse {
            std.debug.print("note: {s} has no main.c yet and is not built\n", .{name});
            continue;
        };
        const install = b.addInstallArtifact(exe, .{ .dest_dir = .{ .override = .{ .custom = bin } } });
        step.dependOn(&install.step);
        b.getInstallStep().dependOn(&install.step);
    }

    const static_step = b.step("procd-static", "Build static procd binaries into zig-out/static");
    for ([_]std.Target.Cpu.Arch{ .x86_64, .aarch64 }) |arch| {
        const musl: Options = .{
            .target = b.resolveTargetQuery(.{ .cpu_arch = arch, .os_tag = .linux, .abi = .musl, .cpu_model = .baseline }),
            .optimize = optimize,
        };
        const exe = Tree.init(b, musl).procd() orelse continue;
        exe.linkage = .static;
        exe.root_module.strip = true;
        const name = b.fmt("procd-{s}", .{@tagName(arch)});
        static_step.dependOn(&b.addInstallArtifact(exe, .{
            .dest_dir = .{ .override = .{ .custom = "static" } },
            .dest_sub_path = name,
        }).step);
    }

    const run = python(b, "deploy/region.py");
    run.addArgs(&.{ "--bin", b.getInstallPath(.{ .custom = bin }, "") });
    if (b.args) |args| run.addArgs(args);
    run.step.dependOn(b.getInstallStep());
    b.step("run", "Run a region on loopback (arguments after --)").dependOn(&run.step);

    const bench = python(b, "bench/compare.py");
    bench.addArgs(&.{ "--bin", b.getInstallPath(.{ .custom = bin }, ""), "--out", b.getInstallPath(.{ .custom = "bench" }, "") });
    if (b.args) |args| bench.addArgs(args);
    bench.step.dependOn(b.getInstallStep());
    b.step("bench", "Measure beside this machine's sshd; results in zig-out/bench (arguments after --)").dependOn(&bench.step);

    // One script runs the checks and ends with one total line, whichever part failed.
    const unit = Check.init(b, "unit", "Run the unit tests (-Dtest=PART of a path)");
    unit.units(tree, test_filter);
    const e2e = Check.init(b, "e2e", "Run the end-to-end tests (pytest arguments after --)");
    e2e.e2e(bin);
    const fmt_check = Check.init(b, "fmt-check", "Check the format of C files");
    fmt_check.run.addArg("--fmt");
    const graph = Check.init(b, "include-graph", "Check who includes whom, and that headers compile alone");
    graph.includeGraph(tree);
    const all = Check.init(b, "test", "Format, include graph, unit and end-to-end tests");
    all.run.addArg("--fmt");
    all.includeGraph(tree);
    all.units(tree, test_filter);
    all.e2e(bin);

    const sanitize = Check.init(b, "sanitize", "The programs (into zig-out/asan) and the unit tests with ASan and UBSan");
    var so = o;
    so.asan = true;
    so.tsan = false;
    so.optimize = if (asan) optimize else .ReleaseSafe;
    const san_tree: Tree = .init(b, so);
    sanitize.units(san_tree, test_filter);
    for ([_]?*Compile{ san_tree.ringgate(), san_tree.procd(), san_tree.control() }) |maybe| if (maybe) |exe| {
        const install = b.addInstallArtifact(exe, .{ .dest_dir = .{ .override = .{ .custom = "asan" } } });
        sanitize.run.step.dependOn(&install.step);
    };

    var fo = so;
    fo.fuzz = true;
    const fuzz = Check.init(b, "fuzz", "Run the parsers of foreign bytes under libFuzzer (-Dfuzz-seconds=N each)");
    fuzz.fuzz(.init(b, fo), test_filter, fuzz_seconds);

    const fmt = python(b, "tests/run.py");
    fmt.addArg("--fmt-write");
    b.step("fmt", "Format the C files").dependOn(&fmt.step);

    b.step("cdb", "Write compile_commands.json for editors").dependOn(CompileCommands.create(tree));
}

/// Everything of ours for one set of options. Libraries are made when first asked for.
const Tree = struct {
    b: *std.Build,
    o: Options,
    uring: third.Lib,
    hiredis: third.Lib,
    msgpack: third.Lib,
    sodium: third.Lib,
    ssh: ?third.Ssh,
    /// Where the system has libpq-fe.h.
    postgres: []const LazyPath,
    layers: []const Layer,

    const Layer = struct {
        name: []const u8,
        files: []const []const u8,
        include: []const LazyPath,
        lib: ?*Compile,
    };

    fn init(b: *std.Build, o: Options) Tree {
        const musl = o.target.result.abi.isMusl();
        var t: Tree = .{
            .b = b,
            .o = o,
            .uring = third.uring(b, o),
            .hiredis = third.hiredis(b, o),
            .msgpack = third.msgpack(b, o),
            .sodium = third.sodium(b, o),
            .ssh = null,
            .postgres = b.allocator.dupe(LazyPath, &.{.{ .cwd_relative = "/usr/include/postgresql" }}) catch @panic("OOM"),
            .layers = &.{},
        };
        if (!musl) t.ssh = third.ssh(b, o, .{
            .patches = paths(b, glob(b, "ssh/patches", ".patch")),
            .socket = if (exists(b, libssh_socket))
                .{ .root = b.path("."), .file = b.path(libssh_socket), .flags = t.flags() }
            else
                null,
        });

        const ssh_public = if (t.ssh) |s| s.include else &.{};
        const ssh_all = if (t.ssh) |s| s.internal else &.{};
        const wire = t.join(&.{ t.msgpack.include, t.sodium.include });
        const all = t.join(&.{ wire, t.uring.include, t.hiredis.include });
        var ssh_files: std.ArrayList([]const u8) = .empty;
        var ssh_internal_files: std.ArrayList([]const u8) = .empty;
        for (glob(b, "ssh", ".c")) |f| {
            if (std.mem.eql(u8, f, libssh_socket)) continue;
            const list = if (contains(&libssh_internal, f)) &ssh_internal_files else &ssh_files;
            list.append(b.allocator, f) catch @panic("OOM");
        }
        const specs = [_]Layer{
            .{ .name = "core", .files = select(b, "core", &core_yaml, false), .include = t.sodium.include, .lib = null },
            .{ .name = "core-yaml", .files = select(b, "core", &core_yaml, true), .include = t.sodium.include, .lib = null },
            .{ .name = "ring", .files = glob(b, "ring", ".c"), .include = t.uring.include, .lib = null },
            .{ .name = "ssh", .files = ssh_files.items, .include = t.join(&.{ ssh_public, t.sodium.include }), .lib = null },
            .{ .name = "ssh-internal", .files = ssh_internal_files.items, .include = t.join(&.{ ssh_all, t.sodium.include }), .lib = null },
            .{ .name = "redis", .files = glob(b, "upstream/redis", ".c"), .include = all, .lib = null },
            .{ .name = "control-client", .files = glob(b, "upstream/control", ".c"), .include = all, .lib = null },
            .{ .name = "procd-codec", .files = select(b, "upstream/procd", &.{"upstream/procd/client"}, false), .include = wire, .lib = null },
            .{ .name = "procd-client", .files = select(b, "upstream/procd", &.{"upstream/procd/client"}, true), .include = all, .lib = null },
            .{ .name = "gateway", .files = select(b, "gateway", &.{"gateway/main.c"}, false), .include = all, .lib = null },
            .{ .name = "control", .files = select(b, "control", &.{"control/main.c"}, false), .include = t.join(&.{ t.sodium.include, t.hiredis.include, t.postgres, &.{openapi(b)} }), .lib = null },
            .{ .name = "procd", .files = select(b, "procd", &.{"procd/main.c"}, false), .include = wire, .lib = null },
            .{ .name = "bench", .files = select(b, "bench", &.{"bench/ringbench.c"}, false), .include = t.join(&.{ ssh_all, all }), .lib = null },
        };
        const layers = b.allocator.dupe(Layer, &specs) catch @panic("OOM");
        for (layers) |*l| {
            if (l.files.len == 0) continue;
            const m = t.ownModule();
            t.addFiles(m, l.files, l.include);
            l.lib = third.static(b, o, b.fmt("rg-{s}", .{l.name}), m);
        }
        t.layers = layers;
        return t;
    }

    /// A step `lib-NAME` for each folder, which compiles it alone, and one for all third-party libraries.
    fn steps(t: Tree) void {
        const libs = t.b.step("lib-third-party", "Compile the third-party libraries only");
        for ([_]*Compile{ t.uring.lib, t.hiredis.lib, t.msgpack.lib, t.sodium.lib }) |l| libs.dependOn(&l.step);
        if (t.ssh) |s| libs.dependOn(&s.lib.step);
        for (t.layers) |l| {
            const step = t.b.step(t.b.fmt("lib-{s}", .{l.name}), "Compile this folder only");
            if (l.lib) |lib| step.dependOn(&lib.step);
        }
    }

    fn layer(t: Tree, name: []const u8) Layer {
        for (t.layers) |l| if (std.mem.eql(u8, l.name, name)) return l;
        @panic(name);
    }

    fn flags(t: Tree) []const []const u8 {
        return third.flags(t.b, t.o, &own_flags);
    }

    fn ownModule(t: Tree) *std.Build.Module {
        return third.module(t.b, t.o, !t.o.tsan and (t.o.asan or t.o.optimize == .Debug), true);
    }

    /// The module of an executable: ASan's runtime has to be its first library.
    fn programModule(t: Tree) *std.Build.Module {
        const m = t.ownModule();
        if (t.o.asan) m.addObjectFile(.{ .cwd_relative = asanRuntime(t.b) });
        // And a sanitizer has to begin before any library's constructors, as gcc's libasan_preinit.o makes it: p11-kit's (under
        // libcurl) calls malloc with glibc's locale lock held, and ASan's beginning there takes it again and breaks it. Then exit
        // hangs. TSan ends there.
        if (t.o.asan or t.o.tsan) m.addCSourceFile(.{ .file = t.b.addWriteFiles().add("preinit.c", t.b.fmt(
            \\void __{0s}_init(void);
            \\__attribute__((section(".preinit_array"), used)) static void (*const begin)(void) = __{0s}_init;
            \\
        , .{if (t.o.asan) "asan" else "tsan"})) });
        return m;
    }

    fn addFiles(t: Tree, m: *std.Build.Module, files: []const []const u8, include: []const LazyPath) void {
        m.addIncludePath(t.b.path("."));
        for (include) |dir| m.addSystemIncludePath(dir);
        m.addCSourceFiles(.{ .root = t.b.path("."), .files = files, .flags = t.flags() });
    }

    fn program(t: Tree, name: []const u8, main: []const u8, from: []const u8) ?*Compile {
        if (!exists(t.b, main)) return null;
        const m = t.programModule();
        t.addFiles(m, &.{main}, t.layer(from).include);
        return t.executable(name, m);
    }

    fn executable(t: Tree, name: []const u8, m: *std.Build.Module) *Compile {
        const exe = t.b.addExecutable(.{ .name = name, .root_module = m });
        exe.setLibCFile(t.o.libc);
        exe.pie = true;
        exe.link_gc_sections = true;
        return exe;
    }

    /// For this machine's system only: libcrypto and libyaml are the system's.
    fn ringgate(t: Tree) ?*Compile {
        if (t.ssh == null) return null;
        const exe = t.program("ringgate", "gateway/main.c", "gateway") orelse return null;
        t.link(exe.root_module, &.{
            "gateway", "procd-client", "procd-codec", "control-client", "redis", "ssh", "ssh-internal", "ring", "core-yaml", "core",
        });
        return exe;
    }

    fn procd(t: Tree) ?*Compile {
        const exe = t.program("procd", "procd/main.c", "procd") orelse return null;
        t.link(exe.root_module, &.{ "procd", "procd-codec", "core" });
        return exe;
    }

    fn ringbench(t: Tree) ?*Compile {
        if (t.ssh == null) return null;
        const exe = t.program("ringbench", "bench/ringbench.c", "bench") orelse return null;
        t.link(exe.root_module, &.{ "bench", "ssh", "ssh-internal", "ring", "core" });
        return exe;
    }

    /// For this machine's system only: its HTTP server, JSON and database libraries.
    fn control(t: Tree) ?*Compile {
        const exe = t.program("ringgate-control", "control/main.c", "control") orelse return null;
        t.link(exe.root_module, &.{ "control", "redis", "core-yaml", "core" });
        return exe;
    }

    /// Links layers and the third-party libraries that these layers use.
    fn link(t: Tree, m: *std.Build.Module, names: []const []const u8) void {
        for (names) |name| if (t.layer(name).lib) |lib| m.linkLibrary(lib);
        m.linkLibrary(t.sodium.lib);
        if (contains(names, "procd-codec")) m.linkLibrary(t.msgpack.lib);
        if (contains(names, "redis")) {
            m.linkLibrary(t.hiredis.lib);
            m.linkLibrary(t.msgpack.lib);
            m.linkSystemLibrary("ssl", .{ .use_pkg_config = .no });
            m.linkSystemLibrary("crypto", .{ .use_pkg_config = .no });
        }
        if (contains(names, "control-client")) {
            m.linkSystemLibrary("curl", .{ .use_pkg_config = .no });
            m.linkSystemLibrary("jansson", .{ .use_pkg_config = .no });
        }
        if (contains(names, "ring")) m.linkLibrary(t.uring.lib);
        if (contains(names, "core-yaml")) m.linkSystemLibrary("yaml", .{ .use_pkg_config = .no });
        if (contains(names, "control")) for ([_][]const u8{ "microhttpd", "jansson", "sqlite3", "pq" }) |name|
            m.linkSystemLibrary(name, .{ .use_pkg_config = .no });
        if (contains(names, "ssh")) {
            m.linkLibrary(t.ssh.?.lib);
            m.linkSystemLibrary("crypto", .{ .use_pkg_config = .no });
        }
    }

    /// What tests/unit/FOLDER links: its folder and those below it.
    fn linkTest(t: Tree, m: *std.Build.Module, folder: []const u8) void {
        const eql = std.mem.eql;
        if (eql(u8, folder, "core")) return t.link(m, &.{ "core-yaml", "core" });
        if (eql(u8, folder, "ring")) return t.link(m, &.{ "ring", "core" });
        if (eql(u8, folder, "ssh")) return t.link(m, &.{ "ssh", "ssh-internal", "core" });
        if (eql(u8, folder, "upstream"))
            return t.link(m, &.{ "procd-client", "procd-codec", "control-client", "redis", "ring", "core" });
        if (eql(u8, folder, "bench")) return t.link(m, &.{ "bench", "ssh", "ssh-internal", "ring", "core" });
        if (eql(u8, folder, "control")) return t.link(m, &.{ "control", "redis", "core-yaml", "core" });
        if (eql(u8, folder, "procd")) return t.link(m, &.{ "procd", "procd-codec", "core" });
        t.link(m, &.{
            "gateway", "procd-client", "procd-codec", "control-client", "redis", "ssh", "ssh-internal", "ring", "core-yaml", "core",
        });
    }

    /// Not to be linked: each of our headers is compiled alone.
    fn headers(t: Tree) ?*Compile {
        const b = t.b;
        const gen = b.addWriteFiles();
        const m = t.ownModule();
        for (own_folders) |folder| for (glob(b, folder, ".h")) |h| {
            const name = std.mem.replaceOwned(u8, b.allocator, h, "/", "-") catch @panic("OOM");
            const c = gen.add(b.fmt("alone-{s}.c", .{name}), b.fmt("#include \"{s}\"\n", .{h}));
            m.addCSourceFile(.{ .file = c, .flags = t.flags() });
        };
        if (m.link_objects.items.len == 0) return null;
        t.addFiles(m, &.{}, t.everyInclude());
        return third.static(b, t.o, "headers", m);
    }

    fn everyInclude(t: Tree) []const LazyPath {
        return t.join(&.{ t.publicInclude(), t.layer("control").include, if (t.ssh) |s| s.internal else &.{} });
    }

    /// The include path of tests and editors: every public header.
    fn publicInclude(t: Tree) []const LazyPath {
        return t.join(&.{ t.layer("gateway").include, if (t.ssh) |s| s.include else &.{} });
    }

    fn join(t: Tree, lists: []const []const LazyPath) []const LazyPath {
        return std.mem.concat(t.b.allocator, LazyPath, lists) catch @panic("OOM");
    }
};

/// A step that runs tests/run.py.
const Check = struct {
    b: *std.Build,
    run: *std.Build.Step.Run,

    fn init(b: *std.Build, name: []const u8, description: []const u8) Check {
        const run = python(b, "tests/run.py");
        b.step(name, description).dependOn(&run.step);
        return .{ .b = b, .run = run };
    }

    fn includeGraph(c: Check, t: Tree) void {
        c.run.addArg("--include-graph");
        if (t.headers()) |lib| c.run.step.dependOn(&lib.step);
    }

    /// tests/unit/FOLDER/test_NAME.c is one executable; the folder's other .c files are linked to each of them.
    fn units(c: Check, t: Tree, filter: ?[]const u8) void {
        c.run.addArg("--unit-tests");
        if (t.o.asan) c.run.addArg("--asan");
        if (t.ssh == null) return;
        const all = glob(c.b, "tests/unit", ".c");
        for (all) |path| {
            const base = std.fs.path.basename(path);
            if (!std.mem.startsWith(u8, base, "test_")) continue;
            if (filter) |f| if (std.mem.find(u8, path, f) == null) continue;
            const m = t.programModule();
            // Helpers first: what they define in place of a library's is there before anything asks for it.
            t.addFiles(m, &.{}, if (std.mem.startsWith(u8, path, "tests/unit/ssh/")) t.everyInclude() else t.publicInclude());
            const dir = std.fs.path.dirname(path).?;
            for (all) |helper| {
                if (std.mem.startsWith(u8, std.fs.path.basename(helper), "test_")) continue;
                if (std.mem.eql(u8, std.fs.path.dirname(helper).?, dir)) t.addFiles(m, &.{helper}, &.{});
            }
            t.addFiles(m, &.{path}, &.{});
            const below = path["tests/unit/".len..];
            t.linkTest(m, below[0 .. std.mem.findScalar(u8, below, '/') orelse 0]);
            m.linkSystemLibrary("cmocka", .{ .use_pkg_config = .no });
            const exe = t.executable(base[0 .. base.len - 2], m);
            c.run.addPrefixedArtifactArg(c.b.fmt("--unit={s}=", .{below[0 .. below.len - 2]}), exe);
        }
        c.sim(t, filter);
    }

    /// tests/sim: one executable of the gateway's own layers on a ring whose kernel is memory. ring/'s loop and buffers
    /// are not in it; its other files are, with the three calls to libc that reach the kernel led elsewhere.
    fn sim(c: Check, t: Tree, filter: ?[]const u8) void {
        const main = "tests/sim/test_sim.c";
        if (filter) |f| if (std.mem.find(u8, main, f) == null) return;
        const m = t.programModule();
        t.addFiles(m, glob(c.b, "tests/sim", ".c"), t.everyInclude());
        const led = [_][]const u8{ "-Dsocket=sim_libc_socket", "-Dclose=sim_libc_close", "-Dshutdown=sim_libc_shutdown" };
        m.addCSourceFiles(.{
            .root = c.b.path("."),
            .files = &.{ "ring/mail.c", "ring/stream.c", "ring/timer.c", "ring/watch.c", "ring/wheel.c", "ring/socket.c" },
            .flags = std.mem.concat(c.b.allocator, []const u8, &.{ t.flags(), &led }) catch @panic("OOM"),
        });
        t.link(m, &.{ "gateway", "procd-client", "procd-codec", "ssh", "ssh-internal", "core-yaml", "core" });
        m.linkSystemLibrary("cmocka", .{ .use_pkg_config = .no });
        c.run.addPrefixedArtifactArg("--unit=sim=", t.executable("test_sim", m));
    }

    /// tests/fuzz/fuzz_NAME.c is one executable each.
    fn fuzz(c: Check, t: Tree, filter: ?[]const u8, seconds: u32) void {
        c.run.addArgs(&.{ "--fuzz-seconds", c.b.fmt("{d}", .{seconds}) });
        if (t.ssh == null) return;
        const runtime = fuzzerRuntime(c.b, t.o.target.result.cpu.arch) orelse return;
        for (glob(c.b, "tests/fuzz", ".c")) |path| {
            if (filter) |f| if (std.mem.find(u8, path, f) == null) continue;
            const base = std.fs.path.basename(path);
            const m = t.programModule();
            t.addFiles(m, &.{path}, t.publicInclude());
            t.linkTest(m, "gateway");
            for (runtime) |file| m.addObjectFile(.{ .cwd_relative = file });
            const name = base["fuzz_".len .. base.len - ".c".len];
            c.run.addPrefixedArtifactArg(c.b.fmt("--fuzz={s}=", .{name}), t.executable(base[0 .. base.len - 2], m));
        }
    }

    fn e2e(c: Check, bin: []const u8) void {
        c.run.addArgs(&.{ "--e2e", c.b.getInstallPath(.{ .custom = bin }, "") });
        if (std.mem.eql(u8, bin, "asan")) c.run.addArg("--asan");
        if (c.b.args) |args| {
            c.run.addArg("--");
            c.run.addArgs(args);
        }
        c.run.step.dependOn(c.b.getInstallStep());
    }
};

/// compile_commands.json for our own files, written without compiling them.
const CompileCommands = struct {
    step: std.Build.Step,
    t: Tree,

    fn create(t: Tree) *std.Build.Step {
        const cc = t.b.allocator.create(CompileCommands) catch @panic("OOM");
        cc.* = .{ .t = t, .step = .init(.{ .id = .custom, .name = "compile_commands.json", .owner = t.b, .makeFn = make }) };
        for (t.everyInclude()) |dir| dir.addStepDependencies(&cc.step);
        return &cc.step;
    }

    fn make(step: *std.Build.Step, _: std.Build.Step.MakeOptions) !void {
        const cc: *CompileCommands = @fieldParentPtr("step", step);
        const b = step.owner;
        const a = b.allocator;
        const Entry = struct { directory: []const u8, file: []const u8, arguments: []const []const u8 };
        const root = b.pathFromRoot(".");
        var args: std.ArrayList([]const u8) = .empty;
        try args.append(a, "cc");
        try args.appendSlice(a, &own_flags);
        try args.appendSlice(a, &.{ "-I", root });
        for (cc.t.everyInclude()) |dir| try args.appendSlice(a, &.{ "-isystem", b.pathFromRoot(dir.getPath2(b, step)) });
        var entries: std.ArrayList(Entry) = .empty;
        for (own_folders) |dir|
            for (glob(b, dir, ".c")) |file| {
                const arguments = try std.mem.concat(a, []const u8, &.{ args.items, &.{ "-c", file } });
                try entries.append(a, .{ .directory = root, .file = file, .arguments = arguments });
            };
        const json = try std.json.Stringify.valueAlloc(a, entries.items, .{ .whitespace = .indent_1 });
        try b.build_root.handle.writeFile(b.graph.io, .{ .sub_path = "compile_commands.json", .data = json });
    }
};

fn python(b: *std.Build, script: []const u8) *std.Build.Step.Run {
    // Test packages of the distribution belong to its own Python, which need not be the first on PATH.
    const exe = if (accessible(b, "/usr/bin/python3")) "/usr/bin/python3" else "python3";
    const run = b.addSystemCommand(&.{exe});
    run.addFileArg(b.path(script));
    run.setName(script);
    run.setCwd(b.path("."));
    run.stdio = .inherit;
    run.has_side_effects = true;
    return run;
}

/// Debian's folders, so that no `cc` is needed to find them; null where they are elsewhere.
fn systemLibc(b: *std.Build, target: std.Build.ResolvedTarget) ?LazyPath {
    if (target.query.cpu_arch != null or !target.query.isNativeOs() or !target.query.isNativeAbi())
        return null;
    const triple = b.fmt("{t}-linux-gnu", .{target.result.cpu.arch});
    if (!accessible(b, b.fmt("/usr/lib/{s}/crt1.o", .{triple}))) return null;
    return b.addWriteFiles().add("libc.txt", b.fmt(
        \\include_dir=/usr/include
        \\sys_include_dir=/usr/include/{s}
        \\crt_dir=/usr/lib/{s}
        \\msvc_lib_dir=
        \\kernel32_lib_dir=
        \\gcc_dir=
        \\
    , .{ triple, triple }));
}

/// gcc's, since zig brings none: the package libasan8, or what comes with gcc elsewhere.
fn asanRuntime(b: *std.Build) []const u8 {
    const places = [_][]const u8{
        "/usr/lib/x86_64-linux-gnu/libasan.so.8",
        "/usr/lib/aarch64-linux-gnu/libasan.so.8",
        "/usr/lib64/libasan.so.8",
    };
    for (places) |path| if (accessible(b, path)) return path;
    return places[0];
}

/// libFuzzer as clang's packages have it (libclang-rt-dev), of the newest clang, and the C++ library that it wants.
fn fuzzerRuntime(b: *std.Build, arch: std.Target.Cpu.Arch) ?[]const []const u8 {
    const triple = b.fmt("{t}-linux-gnu", .{arch});
    const cxx = b.fmt("/usr/lib/{s}/libstdc++.so.6", .{triple});
    if (!accessible(b, cxx)) return null;
    var version: u32 = 40;
    while (version >= 14) : (version -= 1) {
        const dir = b.fmt("/usr/lib/llvm-{d}/lib/clang", .{version});
        var d = std.Io.Dir.openDirAbsolute(b.graph.io, dir, .{ .iterate = true }) catch continue;
        defer d.close(b.graph.io);
        var folders = d.iterate(); // the whole version's name up to 15, the major version's after it
        while (folders.next(b.graph.io) catch null) |folder| {
            const path = b.fmt("{s}/{s}/lib/linux/libclang_rt.fuzzer-{t}.a", .{ dir, folder.name, arch });
            if (accessible(b, path)) return b.allocator.dupe([]const u8, &.{ path, cxx }) catch @panic("OOM");
        }
    }
    return null;
}

fn accessible(b: *std.Build, path: []const u8) bool {
    std.Io.Dir.accessAbsolute(b.graph.io, path, .{}) catch return false;
    return true;
}

fn exists(b: *std.Build, path: []const u8) bool {
    b.build_root.handle.access(b.graph.io, path, .{}) catch return false;
    return true;
}

fn contains(list: []const []const u8, item: []const u8) bool {
    for (list) |x| if (std.mem.eql(u8, x, item)) return true;
    return false;
}

/// openapi_text.h: control/openapi.json as a C string. What JSON escapes in a string of plain ASCII, C escapes likewise.
fn openapi(b: *std.Build) LazyPath {
    const text = b.build_root.handle.readFileAlloc(b.graph.io, "control/openapi.json", b.allocator, .limited(1 << 20)) catch |e|
        std.debug.panic("control/openapi.json: {t}", .{e});
    const literal = std.json.Stringify.valueAlloc(b.allocator, text, .{}) catch @panic("OOM");
    const gen = b.addWriteFiles();
    _ = gen.add("openapi_text.h", b.fmt("static const char openapi_text[] = {s};\n", .{literal}));
    return gen.getDirectory();
}

fn paths(b: *std.Build, files: []const []const u8) []const LazyPath {
    const list = b.allocator.alloc(LazyPath, files.len) catch @panic("OOM");
    for (list, files) |*p, f| p.* = b.path(f);
    return list;
}

/// The files under `dir` whose path starts with one of `prefixes`, or those whose path does not.
fn select(b: *std.Build, dir: []const u8, prefixes: []const []const u8, starts: bool) []const []const u8 {
    var list: std.ArrayList([]const u8) = .empty;
    for (glob(b, dir, ".c")) |f| {
        const found = for (prefixes) |prefix| {
            if (std.mem.startsWith(u8, f, prefix)) break true;
        } else false;
        if (found == starts) list.append(b.allocator, f) catch @panic("OOM");
    }
    return list.items;
}

/// All files under `dir` that end with `ext`, sorted, as paths from the root; none if there is no such folder.
fn glob(b: *std.Build, dir: []const u8, ext: []const u8) []const []const u8 {
    const io = b.graph.io;
    var list: std.ArrayList([]const u8) = .empty;
    var d = b.build_root.handle.openDir(io, dir, .{ .iterate = true }) catch return &.{};
    defer d.close(io);
    var walker = d.walk(b.allocator) catch @panic("OOM");
    defer walker.deinit();
    while (walker.next(io) catch |e| std.debug.panic("cannot list {s}: {t}", .{ dir, e })) |entry| {
        if (entry.kind == .file and std.mem.endsWith(u8, entry.basename, ext))
            list.append(b.allocator, b.fmt("{s}/{s}", .{ dir, entry.path })) catch @panic("OOM");
    }
    std.mem.sort([]const u8, list.items, {}, struct {
        fn less(_: void, x: []const u8, y: []const u8) bool {
            return std.mem.lessThan(u8, x, y);
        }
    }.less);
    return list.items;
}
