//! Lets the binary find libtorch without `LD_LIBRARY_PATH`: beside itself in `lib/` where it was installed, else
//! where it was built against.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by the build script of plmicd-torch (`links = "plmicd_torch"`).
    println!("cargo:rerun-if-env-changed=DEP_PLMICD_TORCH_LIBTORCH_LIB");
    if let Ok(folder) = std::env::var("DEP_PLMICD_TORCH_LIBTORCH_LIB") {
        for path in ["$ORIGIN/lib", "$ORIGIN/../lib", &folder] {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
        }
    }
}
