package main

import (
	"errors"
	"fmt"

	"github.com/ckptferry/ckptferry/fsutil"
	"github.com/ckptferry/ckptferry/replicator"
)

// adviceError is an error with what to do about it in the terms of this command line. The domain's own texts name no
// flags: agents give them as reasons too.
type adviceError struct {
	err    error
	advice string
}

func (e adviceError) Error() string { return e.err.Error() + "\n" + e.advice }
func (e adviceError) Unwrap() error { return e.err }

// advised adds the next step to the errors of a command that reads a checkpoint once and has --map.
func advised(err error) error {
	var scheme *fsutil.SchemeError
	var reach *replicator.ReachError
	switch {
	case errors.As(err, &scheme) && scheme.To != "":
		return adviceError{err, fmt.Sprintf("If it is reached otherwise from here, say where: --map %s=%s", scheme.From, scheme.To)}
	case errors.As(err, &reach):
		return adviceError{err, "If it is reached otherwise from here, say where with --map FROM=TO"}
	case errors.Is(err, replicator.ErrBroken):
		return adviceError{err, "If the files lie elsewhere as seen from here, say where with --map FROM=TO; else replicate an older or newer checkpoint"}
	}
	return err
}
