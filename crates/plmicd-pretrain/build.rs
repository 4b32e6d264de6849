//! Lets this crate's tests find libtorch without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_PLMICD_TORCH_LIBTORCH_LIB");
    if let Ok(folder) = std::env::var("DEP_PLMICD_TORCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
