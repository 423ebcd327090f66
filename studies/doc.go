// Package studies is a study's life: its file ([ReadConfig]), its database ([Store]) and the loop that
// asks, evaluates and records ([Study.Run]).
//
// The database is the only state. A process that is killed at any moment loses at most the trials that
// were running; they are run again under the same numbers, with the same points and seeds. With one
// worker, a study that was stopped and continued equals an uninterrupted one bit for bit.
package studies
