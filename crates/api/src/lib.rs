//! Wire types of the four native APIs, problem codes and header names.
