//! Bodies: small ones are here, large ones only named.

use bytes::Bytes;
use singletrack_core::{
    body::{Body, Digest, Kept},
    limits::BODY_INLINE_MAX,
};

#[test]
fn a_body_is_inline_up_to_its_bound_and_only_named_beyond() {
    let digest = Digest([7; 16]);
    for (len, inline) in
        [(0, true), (1, true), (BODY_INLINE_MAX, true), (BODY_INLINE_MAX + 1, false)]
    {
        let bytes = Bytes::from(vec![b'x'; len]);
        let body = Body::new(bytes.clone(), digest);
        assert_eq!(body.len(), len as u64);
        assert_eq!(body.is_empty(), len == 0);
        assert_eq!(body.digest(), digest);
        let kept = if inline { Kept::Inline(bytes) } else { Kept::Stored };
        assert_eq!(*body.kept(), kept);
    }
}
