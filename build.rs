//! Turns `kernels/*.cu` into PTX that the crate carries.
//!
//! Most machines that build Gyrus have no CUDA compiler, so the compiled kernels are committed (`kernels/compiled`), each
//! with a digest of its sources, and used as they are while the digest fits. A kernel whose sources have changed is compiled
//! with nvcc; where there is none the crate builds without that kernel, and opening a GPU says so. A committed file that is
//! not the one that was listed, by a digest of its own, is a build failure.
//!
//! - `GYRUS_REBUILD_KERNELS=1` compiles everything and fails if the committed PTX is not what the sources give;
//!   `GYRUS_REBUILD_KERNELS=update` writes `kernels/compiled` anew.
//! - `GYRUS_REQUIRE_KERNELS=1` turns a kernel that cannot be had into a build failure.

#[path = "build/manifest.rs"]
mod manifest;
#[path = "build/ptx.rs"]
mod ptx;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, exit},
    sync::Mutex,
};

use manifest::{Entry, Manifest, fingerprint};

const FLAGS: [&str; 6] = ["-ptx", "-std=c++17", "-O3", "--Werror", "all-warnings", "-Ikernels"];
/// What is done to nvcc's text afterwards: a part of what a compiled file depends on.
const AFTERWARDS: &[u8] = include_bytes!("build/ptx.rs");
const COMPILED: &str = "kernels/compiled";

/// One family of kernels for one target.
#[derive(Clone, Debug)]
struct Image {
    family: String,
    /// Such as `compute_80`.
    target: String,
    source: PathBuf,
    /// Of everything that the PTX depends on.
    hash: String,
}

fn main() {
    let rebuild = env::var("GYRUS_REBUILD_KERNELS").unwrap_or_default();
    let require = env::var("GYRUS_REQUIRE_KERNELS").is_ok_and(|value| value == "1");
    for name in ["GYRUS_REBUILD_KERNELS", "GYRUS_REQUIRE_KERNELS", "NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let images = list_images();
    // Whoever writes it anew need not be able to read it.
    let manifest = if rebuild == "update" { Manifest::new() } else { read_manifest() };
    let is_listed = |image: &Image| manifest.get(&image.name()).is_some_and(|entry| entry.sources == image.hash);
    let (fitting, stale): (Vec<Image>, Vec<Image>) =
        images.iter().cloned().partition(|image| rebuild.is_empty() && is_listed(image));
    for image in &fitting {
        let name = image.name();
        manifest::check(Path::new(COMPILED), &name, &manifest[&name]).unwrap_or_else(|cause| {
            fail(&format!(
                "{cause} (take it from the repository again, or write it anew with GYRUS_REBUILD_KERNELS=update cargo build)"
            ))
        });
    }
    let mut found: BTreeMap<String, PathBuf> =
        fitting.iter().map(|image| (image.name(), Path::new(COMPILED).join(image.file()))).collect();
    let mut missing = Vec::new();
    if !stale.is_empty() {
        match find_nvcc() {
            Some(nvcc) => found.extend(compile_all(&nvcc, &stale)),
            None if require => {
                fail("no CUDA compiler (run scripts/setup-cuda, or set NVCC) and GYRUS_REQUIRE_KERNELS=1")
            }
            None => {
                missing.extend(stale.iter().map(Image::name));
                println!(
                    "cargo:warning=no CUDA compiler and the sources of {} have changed: built without these kernels",
                    missing.join(", ")
                );
            }
        }
    }
    match rebuild.as_str() {
        "" => {}
        "1" => compare_with_committed(&images, &found, &manifest),
        "update" => {
            update_committed(&images, &found);
            found = images.iter().map(|image| (image.name(), Path::new(COMPILED).join(image.file()))).collect();
        }
        other => fail(&format!("GYRUS_REBUILD_KERNELS={other}: expected 1 or update")),
    }
    write_table(&images, &found, &missing);
}

/// Every family with the targets that its source names in a line `// Targets: ...`.
fn list_images() -> Vec<Image> {
    let headers = files("kernels/common", "cuh");
    let common: Vec<u8> = headers.iter().flat_map(|path| read(path)).collect();
    // Watching the folders notices files that come or go.
    for path in headers.iter().map(PathBuf::as_path).chain([Path::new("kernels"), Path::new("kernels/common")]) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    println!("cargo:rerun-if-changed={COMPILED}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    let mut images = Vec::new();
    for source in files("kernels", "cu") {
        println!("cargo:rerun-if-changed={}", source.display());
        let text =
            String::from_utf8(read(&source)).unwrap_or_else(|_| fail(&format!("{}: not text", source.display())));
        let family = source.file_stem().expect("a source has a name").to_string_lossy().into_owned();
        let targets = text.lines().find_map(|line| line.strip_prefix("// Targets: "));
        let targets = targets.unwrap_or_else(|| fail(&format!("{}: no line `// Targets: ...`", source.display())));
        for target in targets.split(", ") {
            let key = [text.as_bytes(), &common, target.as_bytes(), FLAGS.join(" ").as_bytes(), AFTERWARDS].concat();
            let (family, source, hash) = (family.clone(), source.clone(), fingerprint(&key));
            images.push(Image { family, target: target.to_owned(), source, hash });
        }
    }
    images
}

impl Image {
    fn name(&self) -> String {
        format!("{}.{}", self.family, self.target)
    }

    fn file(&self) -> String {
        manifest::file(&self.name())
    }
}

fn find_nvcc() -> Option<PathBuf> {
    let named = env::var_os("NVCC").map(PathBuf::from);
    let homes =
        ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(|home| Path::new(&home).join("bin/nvcc"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join("nvcc")).collect();
    let places = [PathBuf::from("/usr/local/cuda/bin/nvcc"), PathBuf::from(".cuda/bin/nvcc")];
    let mut candidates = named.into_iter().chain(homes).chain(on_path).chain(places);
    candidates.find(|candidate| candidate.is_file())
}

/// Compiles on all cores; the places of the compressed PTX by name.
fn compile_all(nvcc: &Path, images: &[Image]) -> Vec<(String, PathBuf)> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let queue = Mutex::new(images.iter());
    let done = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(images.len()) {
            scope.spawn(|| {
                loop {
                    let Some(image) = queue.lock().expect("no panic while locked").next() else { break };
                    let result = compile(nvcc, image, &out);
                    done.lock().expect("no panic while locked").push((image.name(), result));
                }
            });
        }
    });
    done.into_inner().expect("no panic while locked")
}

fn compile(nvcc: &Path, image: &Image, out: &Path) -> PathBuf {
    let compressed = out.join(format!("{}.{}.gz", image.name(), image.hash));
    if compressed.is_file() {
        return compressed;
    }
    let ptx = out.join(format!("{}.ptx", image.name()));
    let result = Command::new(nvcc)
        .args(FLAGS)
        .arg(format!("-arch={}", image.target))
        .arg("-o")
        .args([&ptx, &image.source])
        .output()
        .unwrap_or_else(|error| fail(&format!("{}: {error}", nvcc.display())));
    if !result.status.success() {
        let said = [result.stdout, result.stderr].concat();
        fail(&format!("nvcc refuses {}:\n{}", image.source.display(), String::from_utf8_lossy(&said)));
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let text = String::from_utf8(read(&ptx)).unwrap_or_else(|_| fail(&format!("{}: not text", ptx.display())));
    encoder.write_all(ptx::lower(&text).as_bytes()).and_then(|()| encoder.try_finish()).expect("writing to memory");
    write(&compressed, encoder.get_ref());
    compressed
}

fn compare_with_committed(images: &[Image], found: &BTreeMap<String, PathBuf>, manifest: &Manifest) {
    for image in images {
        let name = image.name();
        let committed = Path::new(COMPILED).join(image.file());
        let is_known = manifest.get(&name).is_some_and(|entry| {
            entry.sources == image.hash && manifest::check(Path::new(COMPILED), &name, entry).is_ok()
        });
        let is_same = is_known && found.get(&image.name()).is_some_and(|path| inflate(path) == inflate(&committed));
        if !is_same {
            fail(&format!(
                "{} is not what its sources give (GYRUS_REBUILD_KERNELS=update cargo build writes it anew)",
                committed.display()
            ));
        }
    }
}

fn update_committed(images: &[Image], found: &BTreeMap<String, PathBuf>) {
    fs::create_dir_all(COMPILED).unwrap_or_else(|error| fail(&format!("{COMPILED}: {error}")));
    let is_wanted = |path: &Path| images.iter().any(|image| path.ends_with(image.file()));
    for old in files(COMPILED, "gz").into_iter().filter(|path| !is_wanted(path)) {
        fs::remove_file(&old).unwrap_or_else(|error| fail(&format!("{}: {error}", old.display())));
    }
    let mut manifest = Manifest::new();
    for image in images {
        let path = found.get(&image.name()).unwrap_or_else(|| fail(&format!("{}: not compiled", image.name())));
        let bytes = read(path);
        write(&Path::new(COMPILED).join(image.file()), &bytes);
        manifest.insert(image.name(), Entry { sources: image.hash.clone(), compiled: fingerprint(&bytes) });
    }
    write(&Path::new(COMPILED).join(manifest::FILE), manifest::print(&manifest).as_bytes());
}

/// What `src/machine/images.rs` includes.
fn write_table(images: &[Image], found: &BTreeMap<String, PathBuf>, missing: &[String]) {
    let root = env::current_dir().expect("cargo runs build scripts in the package");
    let mut text = String::from("const IMAGES: &[Image] = &[\n");
    for image in images {
        let Some(path) = found.get(&image.name()) else { continue };
        let (family, target, path) = (&image.family, &image.target, root.join(path));
        text += &format!(
            "    Image {{ family: {family:?}, target: {target:?}, compressed: include_bytes!({:?}) }},\n",
            path.display().to_string()
        );
    }
    text += &format!("];\nconst MISSING: &[&str] = &{missing:?};\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write(&out.join("images.rs"), text.as_bytes());
}

fn read_manifest() -> Manifest {
    let path = Path::new(COMPILED).join(manifest::FILE);
    // Without one, nothing is known and everything is stale.
    let text = fs::read_to_string(path).unwrap_or_default();
    manifest::parse(&text).unwrap_or_else(|cause| fail(&format!("{COMPILED}/{cause}")))
}

fn inflate(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    let bytes = read(path);
    if let Err(error) = flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut text) {
        fail(&format!("{}: {error}", path.display()));
    }
    text
}

/// The files of a folder with this extension, in order of name.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| fail(&format!("{folder}: {error}")));
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())))
}

/// Leaves a file alone that has this content: cargo would compile again whatever includes it.
fn write(path: &Path, bytes: &[u8]) {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return;
    }
    fs::write(path, bytes).unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())));
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    exit(1)
}
