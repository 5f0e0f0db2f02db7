//! The end: panics with a backtrace, and the exit code to the machine.

use core::arch::asm;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use kernel_dp::LARGE_PAGE;

use super::boot::ImageLayout;
use super::console::say;
use super::cpu::{halt_forever, outl};

/// I/O port of QEMU's `isa-debug-exit`.
const DEBUG_EXIT: u16 = 0xf4;
/// Most frames of a backtrace.
const FRAMES_MAX: usize = 32;

/// How the machine ends; QEMU exits with the code doubled, plus one.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum ExitCode {
    /// The application exited with code 0.
    Success = 0x10,
    /// The application exited with another code.
    ApplicationFailed = 0x11,
    /// The application was stopped for a fault.
    ApplicationFaulted = 0x12,
    /// The kernel panicked.
    Panic = 0x13,
    /// Bad configuration, image or boot information. `boot.s` uses it too.
    BadBoot = 0x14,
    /// No NIC, or none that works.
    NoNic = 0x15,
    /// The application was stopped because it stayed in user mode for too long.
    ApplicationOverstayed = 0x16,
}

/// Ends the machine. Where there is no exit device, the processor halts for good.
pub fn exit(code: ExitCode) -> ! {
    // SAFETY: the port belongs to the exit device, or to nothing.
    unsafe { outl(DEBUG_EXIT, code as u32) };
    halt_forever()
}

/// Reports why the kernel cannot start, and ends the machine.
pub fn refuse(code: ExitCode, reason: impl fmt::Display) -> ! {
    say!("cannot start: {reason}");
    exit(code)
}

/// Reports a panic with a backtrace from the frame at `frame_pointer` on, and ends the machine.
pub fn stop(what: fmt::Arguments<'_>, frame_pointer: u64) -> ! {
    super::smp::begin_end();
    static PANICKED: AtomicBool = AtomicBool::new(false);
    if PANICKED.swap(true, Ordering::Relaxed) {
        // The report itself failed: no second attempt.
        exit(ExitCode::Panic);
    }
    say!("panic: {what}");
    say!(
        "backtrace (addr2line -e ixkernel.elf):{}",
        Backtrace(frame_pointer)
    );
    exit(ExitCode::Panic)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let frame_pointer;
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, rbp", out(reg) frame_pointer, options(nomem, nostack, preserves_flags))
    };
    stop(format_args!("{info}"), frame_pointer)
}

/// The return addresses on the stack, by frame pointers.
struct Backtrace(u64);

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = ImageLayout::get();
        let mut frame = self.0;
        for _ in 0..FRAMES_MAX {
            let on_stack = is_stack(&image, frame);
            if !on_stack || !frame.is_multiple_of(8) {
                break;
            }
            // SAFETY: the frame lies in the kernel's data, where its stacks are. If it points to
            // a guard page, the fault ends in `stop`, which ends the machine.
            let [next, address] = unsafe { (frame as *const [u64; 2]).read_volatile() };
            if !(image.code.start..image.code.end).contains(&address) {
                break;
            }
            write!(f, " {address:#x}")?;
            if next <= frame {
                break;
            }
            frame = next;
        }
        Ok(())
    }
}

/// Whether a frame may lie there: in the image's data, where the boot CPU's stacks are, or in the
/// block of the CPU that this runs on.
fn is_stack(image: &ImageLayout, frame: u64) -> bool {
    let here = &raw const image as u64 & !(LARGE_PAGE - 1);
    let in_data = image.data.start <= frame && frame < image.data.end - 16;
    in_data || (here..here + LARGE_PAGE - 16).contains(&frame)
}
