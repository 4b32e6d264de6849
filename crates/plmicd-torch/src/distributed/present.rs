use std::ffi::{CString, c_char};
use std::ptr::null_mut;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tch::Tensor;
use torch_sys::C_tensor;

use super::{Meeting, Membership};
use crate::{TorchError, ffi};

/// `plmicd_store` of the shim.
#[repr(C)]
struct RawStore {
    _opaque: [u8; 0],
}

/// `plmicd_group` of the shim.
#[repr(C)]
struct RawGroup {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn plmicd_store_open(
        host: *const c_char,
        port: u16,
        is_host: i32,
        timeout_ms: i64,
        out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn plmicd_store_close(store: *mut RawStore);
    fn plmicd_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const u8,
        length: usize,
    ) -> *mut c_char;
    fn plmicd_store_has(store: *mut RawStore, key: *const c_char, out: *mut i32) -> *mut c_char;
    fn plmicd_store_get(
        store: *mut RawStore,
        key: *const c_char,
        out: *mut *mut c_char,
        length: *mut usize,
    ) -> *mut c_char;
    fn plmicd_group_join(
        store: *mut RawStore,
        prefix: *const c_char,
        rank: i32,
        size: i32,
        timeout_ms: i64,
        address: *const c_char,
        interface: *const c_char,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn plmicd_group_leave(group: *mut RawGroup);
    fn plmicd_group_abort(group: *mut RawGroup);
    fn plmicd_group_all_reduce(group: *mut RawGroup, tensor: *mut C_tensor) -> *mut c_char;
    fn plmicd_group_broadcast(group: *mut RawGroup, tensor: *mut C_tensor, root: i32) -> *mut c_char;
}

/// A key-value store in which processes meet (`c10d::TCPStore`).
#[derive(Debug)]
pub struct Store(*mut RawStore);

// SAFETY: c10d's store guards its connection by a mutex of its own.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

/// Processes that work together (`c10d::ProcessGroupGloo`, and NCCL for tensors on GPUs).
#[derive(Debug)]
pub struct Group(*mut RawGroup);

// SAFETY: the group is not tied to the thread that made it.
unsafe impl Send for Group {}

fn text(text: &str) -> Result<CString, TorchError> {
    CString::new(text).map_err(|error| TorchError::Invalid(error.to_string()))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn small(number: usize) -> Result<i32, TorchError> {
    i32::try_from(number).map_err(|error| TorchError::Invalid(error.to_string()))
}

impl Store {
    /// Opens the store that `meeting` names, or connects to it; waits for it up to the timeout.
    pub fn open(meeting: &Meeting) -> Result<Self, TorchError> {
        let host = text(&meeting.host)?;
        let mut store = null_mut();
        // SAFETY: the string is nul-terminated and, as `store`, outlives the call.
        unsafe {
            ffi::check(plmicd_store_open(
                host.as_ptr(),
                meeting.port,
                i32::from(meeting.is_host),
                milliseconds(meeting.timeout),
                &mut store,
            ))?;
        }
        Ok(Self(store))
    }

    /// Puts a value, replacing one that is there.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), TorchError> {
        let key = text(key)?;
        // SAFETY: the store is alive as long as `self`; the shim copies key and value.
        unsafe { ffi::check(plmicd_store_set(self.0, key.as_ptr(), value.as_ptr(), value.len())) }
    }

    /// Whether there is a value; does not wait.
    pub fn has(&self, key: &str) -> Result<bool, TorchError> {
        let key = text(key)?;
        let mut found = 0;
        // SAFETY: the store is alive as long as `self`; `found` outlives the call.
        unsafe { ffi::check(plmicd_store_has(self.0, key.as_ptr(), &mut found))? };
        Ok(found != 0)
    }

    /// A value; waits for it up to the store's timeout.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, TorchError> {
        let key = text(key)?;
        let (mut value, mut length) = (null_mut(), 0);
        // SAFETY: the store is alive as long as `self`; both results outlive the call.
        unsafe { ffi::check(plmicd_store_get(self.0, key.as_ptr(), &mut value, &mut length))? };
        // SAFETY: on success the shim has made `length` bytes by malloc, copied here and freed once.
        unsafe { Ok(ffi::take_bytes(value, length)) }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by the shim, closed once; groups keep a reference of their own.
        unsafe { plmicd_store_close(self.0) }
    }
}

impl Group {
    /// Joins a group; returns when all its members have, and fails if they have not within the timeout.
    pub fn join(store: &Store, membership: &Membership) -> Result<Self, TorchError> {
        let prefix = text(&membership.prefix)?;
        let interface = text(membership.interface.as_deref().unwrap_or_default())?;
        let address = text(if membership.is_local { "127.0.0.1" } else { "" })?;
        let mut group = null_mut();
        // SAFETY: the strings are nul-terminated and, as `group`, outlive the call; the store is alive.
        unsafe {
            ffi::check(plmicd_group_join(
                store.0,
                prefix.as_ptr(),
                small(membership.rank)?,
                small(membership.size)?,
                milliseconds(membership.timeout),
                address.as_ptr(),
                interface.as_ptr(),
                &mut group,
            ))?;
        }
        Ok(Self(group))
    }

    /// Replaces a contiguous tensor by its sum over all members, the same bytes for each. On a GPU it returns when the work
    /// is queued.
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<(), TorchError> {
        // SAFETY: the tensor lives until the work is done: the call waits, or the GPU's stream keeps its order.
        unsafe { ffi::check(plmicd_group_all_reduce(self.0, ffi::raw(tensor))) }
    }

    /// Replaces a contiguous tensor by that of the member `root`.
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<(), TorchError> {
        // SAFETY: as for `all_reduce`.
        unsafe { ffi::check(plmicd_group_broadcast(self.0, ffi::raw(tensor), small(root)?)) }
    }

    /// Ends what this process's GPU is still waiting for others to do: they may never do it. Nothing can be summed after it.
    pub fn abort(&self) {
        // SAFETY: the group is alive as long as `self`.
        unsafe { plmicd_group_abort(self.0) };
    }

    /// What `wait` gives, which waits for what this process's GPU was given to sum. Another process that has gone never gives
    /// its part, and the GPU would wait for ever: where it takes longer than `most` the sum is aborted as by
    /// [`Group::abort`], so that `wait` ends, and what it gives is worth nothing: `None`.
    pub fn abort_after<T>(&self, most: Duration, wait: impl FnOnce() -> T) -> Option<T> {
        struct Waited(*mut RawGroup);
        // SAFETY: the other thread lives no longer than this call, hence than `self`, and aborts, which is made to be
        // called while a thread waits for the GPU. `wait` looks at tensors and does nothing with the group.
        unsafe impl Send for Waited {}
        let waited = Waited(self.0);
        let (done, ended) = channel::<()>();
        std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let waited = waited;
                let is_late = ended.recv_timeout(most) == Err(RecvTimeoutError::Timeout);
                if is_late {
                    // SAFETY: as above.
                    unsafe { plmicd_group_abort(waited.0) };
                }
                is_late
            });
            let found = wait();
            drop(done);
            let is_late = watch.join().unwrap_or(true);
            (!is_late).then_some(found)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by the shim, left once.
        unsafe { plmicd_group_leave(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_longer_than_allowed() {
        let second = Duration::from_secs(1);
        let meeting = Meeting { host: "127.0.0.1".to_owned(), port: 0, is_host: true, timeout: 10 * second };
        let store = Store::open(&meeting).expect("a store");
        let membership = Membership {
            prefix: "test".to_owned(),
            rank: 0,
            size: 1,
            timeout: 10 * second,
            interface: None,
            is_local: true,
        };
        let group = Group::join(&store, &membership).expect("a group");
        assert_eq!(group.abort_after(60 * second, || 7), Some(7));
        assert_eq!(group.abort_after(Duration::ZERO, || std::thread::sleep(second)), None);
    }
}
