//! Names of what a stack is made of.

/// Elastic Load Balancing allows no longer name for a target group.
const LONGEST: usize = 32;

/// The name of everything in a color's stack: `name-color`, or, where that is too long for a target group, its
/// beginning and a hash of the whole, so that it is always the same and never that of another.
pub fn name(name: &str, color: &str) -> String {
    let whole = format!("{name}-{color}");
    if whole.len() <= LONGEST {
        return whole;
    }
    shortened(name, color, &whole)
}

/// The name of everything in a color's stack while another object of the same name and color still has the usual one, as
/// where one is replaced and the new one is made first.
pub fn second_name(name: &str, color: &str) -> String {
    shortened(name, color, &format!("{name}-{color} 2"))
}

/// The beginning of both, and a hash of the whole.
fn shortened(name: &str, color: &str, whole: &str) -> String {
    let hash = format!("{:08x}", hash(whole));
    // The color stays readable if it is no longer than half.
    let color: String = color.chars().take(LONGEST / 2 - 4).collect();
    let room = LONGEST - hash.len() - color.len() - 2;
    let start: String = name.chars().take(room).collect();
    let color = color.trim_end_matches('-');
    format!("{}-{color}-{hash}", start.trim_end_matches('-'))
}

/// FNV-1a, 32 bits: stable for ever, which std's hashes don't promise.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
