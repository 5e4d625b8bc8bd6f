package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm/instance/sockets"
)

// trialLimit bounds the trial run of a new program.
const trialLimit = 10 * time.Second

// replaceable returns a context that ends with gateway.ErrHandOver on SIGUSR2,
// if the program that is now in our place can run at all.
func replaceable(ctx context.Context, log *slog.Logger, program string) (context.Context, func()) {
	ctx, end := context.WithCancelCause(ctx)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR2)
	go func() {
		for {
			select {
			case <-asked:
			case <-ctx.Done():
				return
			}
			if err := try(ctx, program); err != nil {
				log.Error("Polder is not replaced: the new program does not run", "program", program, "reason", err)
				continue
			}
			log.Info("Polder hands over to its next program", "program", program)
			end(gateway.ErrHandOver)
			return
		}
	}()
	return ctx, func() { signal.Stop(asked); end(nil) }
}

// try runs the program for its version.
func try(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	said, err := exec.CommandContext(ctx, program, "version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s version: %w: %.200s", program, err, said)
	}
	return nil
}

// become executes the program in our place: under the same number, so that
// whoever supervises us notices nothing. It returns only with an error.
func become(program string) error {
	return fmt.Errorf("execute %s: %w; what runs is adopted by the next polder run", program, syscall.Exec(program, os.Args, os.Environ()))
}

func keepCommand() *cobra.Command {
	return &cobra.Command{
		Use: "keep", Hidden: true, Args: cobra.NoArgs,
		Short: "Keep a region's listening sockets open while Polder is away",
		RunE:  func(*cobra.Command, []string) error { return sockets.Keep() },
	}
}
