//! Clients of Google's services over one auth, one retry, one error.
