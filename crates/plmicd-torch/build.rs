//! Compiles the C++ shim against the same libtorch that torch-sys found, and passes its library
//! folder on to the build scripts of direct dependents as `DEP_PLMICD_TORCH_LIBTORCH_LIB`.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    println!("cargo:rerun-if-env-changed=GLOO_INCLUDE");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");

    let lib_dir = PathBuf::from(
        env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys exports the library folder of libtorch"),
    );
    // A relative LIBTORCH is relative to the folder of the crate that reads it.
    let lib_dir = lib_dir.canonicalize().unwrap_or(lib_dir);
    let root = match env::var_os("LIBTORCH_INCLUDE") {
        Some(root) => PathBuf::from(root),
        None => lib_dir.parent().expect("the library folder lies in libtorch's folder").to_path_buf(),
    };
    let include = root.join("include");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .pic(true)
        .warnings(false)
        // The kernels are hot whatever the profile of the Rust code.
        .opt_level(3)
        .debug(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .flag("-std=c++17")
        .flag("-fopenmp")
        // Vectors are only passed between functions that are inlined.
        .flag_if_supported("-Wno-psabi")
        // The same sums on every compiler: no fused multiply-add of its own accord.
        .flag("-ffp-contract=off")
        // Roots of vectors: nobody asks for the error number of a single one.
        .flag("-fno-math-errno")
        .flag(format!("-D_GLIBCXX_USE_CXX11_ABI={abi}"))
        .file("shim/tensor.cpp")
        .file("shim/attention.cpp")
        .file("shim/embedding.cpp")
        .file("shim/label.cpp")
        .file("shim/layer.cpp")
        .file("shim/optimizer.cpp")
        .file("shim/product.cpp")
        .file("shim/random.cpp")
        .file("shim/system.cpp");
    if env::var_os("CARGO_FEATURE_DISTRIBUTED").is_some() {
        let gloo = PathBuf::from(env::var_os("GLOO_INCLUDE").unwrap_or_else(|| "/usr/include".into()));
        let header = gloo.join("gloo/config.h");
        assert!(
            header.exists(),
            "the feature `distributed` needs the headers of Gloo, but there is no {}: install libgloo-dev (Debian, Ubuntu), \
             or let GLOO_INCLUDE name the folder that holds gloo/",
            header.display()
        );
        build.define("USE_C10D_GLOO", None).include(gloo).file("shim/distributed.cpp");
    }
    build.compile("plmicd_shim");

    println!("cargo:rustc-link-search=native={}", lib_dir.display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
    println!("cargo:rustc-link-lib=gomp");
    println!("cargo:libtorch_lib={}", lib_dir.display());
    // This crate's own tests find libtorch without LD_LIBRARY_PATH.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib_dir.display());
}
