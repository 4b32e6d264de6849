//! Lets this crate's tests find libtorch without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let folder =
        std::env::var("DEP_PLMICD_TORCH_LIBTORCH_LIB").expect("plmicd-torch exports libtorch's folder");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
}
