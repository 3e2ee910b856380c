//! Lets the trainer find libxgboost, and what libxgboost itself needs, when it is linked and when
//! it runs.

use std::env;

fn main() {
    println!("cargo:rerun-if-env-changed=XGBOOST_LIB_DIR");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // RPATH and not RUNPATH: only the former also counts for the libraries that libxgboost needs,
    // its own libgomp among them.
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN");
    if let Ok(folder) = env::var("XGBOOST_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        println!("cargo:rustc-link-arg=-Wl,-rpath-link,{folder}");
    }
}
