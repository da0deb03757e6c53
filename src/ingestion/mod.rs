//! The valve: pause, drain, resume.
