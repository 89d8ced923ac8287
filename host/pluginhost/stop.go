package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

const (
	// reapWait is how long the end of a killed process is waited for. Only one that hangs in the kernel takes longer than an instant.
	reapWait = 5 * time.Second
	// drainSlack is what a plugin's answer to Drain may take on top of the deadline that it was given.
	drainSlack = time.Second
)

// stop ends the instance gently: it is asked to drain, then to shut down, then with SIGTERM; what still runs after that is killed.
// Each step is bounded by the plugin's settings, and all of them by ctx: when it ends, the rest is skipped. The error says that flows
// were cut or that the process had to be killed.
func (in *instance) stop(ctx context.Context) error {
	if in.dialled() {
		return in.leave(ctx)
	}
	err := in.drain(ctx)
	shutdown := in.shutdown()
	if !in.process.wait(ctx, in.settings.StopTimeout) {
		in.process.signal(syscall.SIGTERM, "the host stops it")
		if !in.process.wait(ctx, in.settings.StopTimeout) {
			err = errors.Join(err, fmt.Errorf("plugin %s did not stop when asked to, and was killed", in.Name))
		}
	}
	return errors.Join(err, in.endAfter(shutdown, "it did not stop when asked to"))
}

// drain lets the flows of the process come to rest.
func (in *instance) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, in.settings.DrainTimeout+drainSlack)
	defer cancel()
	flows, err := in.rpc.Drain(ctx, in.settings.DrainTimeout)
	if in.process.hasEnded() {
		return nil // which is all that was wanted
	}
	if err != nil {
		return fmt.Errorf("drain plugin %s: %w", in.Name, err)
	}
	if flows > 0 {
		return fmt.Errorf("drain plugin %s: %d flows still ran after %s", in.Name, flows, in.settings.DrainTimeout)
	}
	return nil
}

// shutdown asks the process to end, and lets go of the connection. The channel is closed when go-plugin is done with both, which is
// soon after the process has ended, whatever it does.
func (in *instance) shutdown() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if in.client != nil {
			in.client.Kill()
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.conn != nil {
			in.conn.Close()
		}
	}()
	return done
}

// end ends the instance at once, or tidies up after one that has ended by itself. It can be called before the process runs.
func (in *instance) end(reason string) error {
	if in.process != nil {
		in.process.kill(reason)
		in.process.wait(context.Background(), reapWait)
	}
	return in.endAfter(in.shutdown(), reason)
}

// endAfter makes sure that nothing is left of the instance.
func (in *instance) endAfter(shutdown <-chan struct{}, reason string) error {
	if in.process != nil {
		in.process.kill(reason)
		if !in.process.wait(context.Background(), reapWait) {
			return fmt.Errorf("plugin %s: process %d could not be killed", in.Name, in.process.pid)
		}
	}
	<-shutdown
	if in.stopLanes != nil {
		in.stopLanes()
	}
	if err := in.confined.Close(); err != nil {
		return fmt.Errorf("plugin %s: %w", in.Name, err)
	}
	if err := removeAll(in.folder); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("plugin %s: remove its folder: %w", in.Name, err)
	}
	return nil
}
