//! Bodies: small ones are here, large ones are carried into the log and then only named.

use bytes::Bytes;
use singletrack_core::{
    body::{Body, Digest},
    limits::BODY_INLINE_MAX,
};

#[test]
fn a_body_is_inline_up_to_its_bound_and_only_named_beyond() {
    let digest = Digest([7; 16]);
    for (len, is_large) in
        [(0, false), (1, false), (BODY_INLINE_MAX, false), (BODY_INLINE_MAX + 1, true)]
    {
        let bytes = Bytes::from(vec![b'x'; len]);
        let body = Body::new(&bytes, |_| digest);
        assert_eq!(body.len(), len);
        assert_eq!(body.is_empty(), len == 0);
        assert_eq!(body.is_large(), is_large);
        assert_eq!(body.bytes(), Some(&bytes), "what was just made has its bytes");
        assert_eq!(body.carried(), is_large.then_some(&bytes));
        let kept = body.to_kept();
        assert_eq!(kept.len(), len);
        assert_eq!(kept.is_large(), is_large);
        assert_eq!(kept.bytes(), (!is_large).then_some(&bytes));
        assert_eq!(kept.carried(), None);
        assert_eq!(kept.to_kept(), kept);
        if is_large {
            let len = u32::try_from(len).unwrap();
            assert_eq!(kept, Body::Stored { len, digest });
        }
    }
}
