//! Where answers go.

use crate::store::Piece;

/// Takes answers, in order.
pub trait Output {
    /// Text that is always the same.
    fn fixed(&mut self, text: &'static str);

    /// Text that is copied.
    fn text(&mut self, bytes: &[u8]);

    /// Part of an item, which is not copied.
    fn piece(&mut self, piece: Piece);

    /// Whether the peer has so much to read that nothing more should be done for it now.
    fn is_full(&self) -> bool;
}
