use std::ptr::NonNull;

use tch::{Device, Tensor};

use crate::{TorchError, ffi};

/// A tensor's values on their way to the CPU. A GPU copies them when it comes to this point of its queue, into pinned
/// memory: whoever reads them waits for that alone, while what is queued later goes on.
#[derive(Debug)]
pub struct Fetch(NonNull<ffi::RawFetch>);

// SAFETY: what the shim holds are handles of libtorch's, which any thread may use.
unsafe impl Send for Fetch {}

impl Fetch {
    /// Queues the copy. On the CPU nothing is copied: the tensor must not be changed afterwards.
    pub fn begin(tensor: &Tensor) -> Result<Self, TorchError> {
        let mut out = std::ptr::null_mut();
        // SAFETY: `tensor` is live; on success the shim hands over one new object, which is freed on drop.
        unsafe { ffi::check(ffi::plmicd_fetch_begin(ffi::raw(tensor), &mut out))? };
        NonNull::new(out).map(Self).ok_or_else(|| TorchError::Invalid("nothing was fetched".to_owned()))
    }

    /// The values, once they are there.
    pub fn wait(&self) -> Result<Tensor, TorchError> {
        let mut out = std::ptr::null_mut();
        // SAFETY: the object lives as long as `self`; on success the shim hands over one new tensor, which tch frees.
        unsafe {
            ffi::check(ffi::plmicd_fetch_end(self.0.as_ptr(), &mut out))?;
            Ok(Tensor::from_ptr(out))
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        // SAFETY: made by `plmicd_fetch_begin` and freed here alone.
        unsafe { ffi::plmicd_fetch_free(self.0.as_ptr()) };
    }
}

/// Results of one batch after the other, each read while a GPU computes the next; on the CPU at once.
#[derive(Debug)]
pub struct InFlight<T> {
    reads_late: bool,
    waiting: Option<(T, Fetch)>,
}

impl<T> InFlight<T> {
    /// For results that are computed on `device`.
    pub fn new(device: Device) -> Self {
        Self::reading(device != Device::Cpu)
    }

    fn reading(late: bool) -> Self {
        Self { reads_late: late, waiting: None }
    }

    /// Takes a result that is computed or queued, and what it is of; gives the one that is to be read now.
    pub fn next(&mut self, of: T, result: &Tensor) -> Result<Option<(T, Tensor)>, TorchError> {
        let new = (of, Fetch::begin(result)?);
        let due = if self.reads_late { self.waiting.replace(new) } else { Some(new) };
        due.map(|(of, fetch)| Ok((of, fetch.wait()?))).transpose()
    }

    /// The last one, where it has not been given yet.
    pub fn last(&mut self) -> Result<Option<(T, Tensor)>, TorchError> {
        self.waiting.take().map(|(of, fetch)| Ok((of, fetch.wait()?))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_is_given_once_and_in_order() {
        for late in [false, true] {
            let mut flight = InFlight::reading(late);
            let mut read = Vec::new();
            for number in 0..3i64 {
                let given = flight.next(number, &Tensor::from(10 * number)).unwrap();
                assert_eq!(given.is_some(), !late || number > 0);
                read.extend(given);
            }
            read.extend(flight.last().unwrap());
            assert!(flight.last().unwrap().is_none());
            let read: Vec<(i64, i64)> =
                read.into_iter().map(|(of, value)| (of, value.int64_value(&[]))).collect();
            assert_eq!(read, [(0, 0), (1, 10), (2, 20)]);
        }
    }

    #[test]
    fn what_is_fetched_is_what_the_tensor_holds() {
        let fetch = Fetch::begin(&Tensor::from_slice(&[1.5f64, -2.0])).unwrap();
        assert_eq!(Vec::<f64>::try_from(fetch.wait().unwrap()).unwrap(), [1.5, -2.0]);
        assert_eq!(fetch.wait().unwrap().size(), [2]);
    }
}
