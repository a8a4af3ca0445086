//! The authorization request (RFC 6749, 4.1.1, with PKCE, RFC 7636) and its response at the
//! redirection endpoint (4.1.2).
