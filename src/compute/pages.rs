//! Large pages under what is large and lives long.

/// Asks for large pages under the memory of a vector that is still to be filled. The first touch of 150,000 small pages is most
/// of a model's load; and a pass that streams through all weights looks every one of them up.
#[cfg(target_os = "linux")]
pub(crate) fn prefer_large_pages<T>(room: &mut Vec<T>) {
    const WORTH_IT: usize = 1 << 20;
    const PAGE: usize = 4096;
    let spare = room.spare_capacity_mut();
    let bytes = std::mem::size_of_val(spare);
    if bytes < WORTH_IT {
        return;
    }
    let start = spare.as_mut_ptr().cast::<u8>();
    let skip = start.align_offset(PAGE);
    let len = bytes.saturating_sub(skip) / PAGE * PAGE;
    // SAFETY: the range lies within the vector's own allocation, and this advice changes how its pages are backed, never
    // what they hold. A kernel without large pages refuses, and small ones serve as well.
    let _ = unsafe { rustix::mm::madvise(start.wrapping_add(skip).cast(), len, rustix::mm::Advice::LinuxHugepage) };
}

/// Other systems choose by themselves.
#[cfg(not(target_os = "linux"))]
pub(crate) fn prefer_large_pages<T>(_room: &mut Vec<T>) {}
