//go:build broker

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

// realBroker is the address of the Apache Kafka broker that all tests share.
var realBroker string

// TestMain starts a broker in KRaft mode from the jars in the folder that TOWPATH_KAFKA_JARS names, and ends it when the tests are done.
func TestMain(m *testing.M) {
	code, err := withBroker(os.Getenv("TOWPATH_KAFKA_JARS"), func() int {
		code := m.Run()
		if err := goleak.Find(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "no broker:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func withBroker(jars string, run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "broker")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	address, config, err := writeProperties(dir)
	if err != nil {
		return 0, err
	}
	class := []string{"-Xmx512m", "-cp", filepath.Join(jars, "*")}
	format := exec.Command("java", append(class, "kafka.tools.StorageTool", "format", "-t", "towpathtowpathtowpathA", "-c", config)...)
	if text, err := format.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("format: %w: %s", err, text)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	broker := exec.Command("java", append(class, "kafka.Kafka", config)...)
	broker.Stdout, broker.Stderr = log, log
	broker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := broker.Start(); err != nil {
		return 0, err
	}
	defer broker.Wait()
	defer broker.Process.Kill()
	if err := awaitBroker(address); err != nil {
		text, _ := os.ReadFile(log.Name())
		return 0, fmt.Errorf("%w: %s", err, text)
	}
	realBroker = address
	return run(), nil
}

func writeProperties(dir string) (address, file string, err error) {
	var ports []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", "", err
		}
		defer l.Close()
		ports = append(ports, l.Addr().String())
	}
	file = filepath.Join(dir, "server.properties")
	return ports[0], file, os.WriteFile(file, []byte(strings.NewReplacer("BROKER", ports[0], "CONTROLLER", ports[1], "DIR", dir).Replace(properties)), 0o600)
}

const properties = `
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@CONTROLLER
listeners=PLAINTEXT://BROKER,QUORUM://CONTROLLER
advertised.listeners=PLAINTEXT://BROKER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,QUORUM:PLAINTEXT
controller.listener.names=QUORUM
log.dirs=DIR/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
`

func awaitBroker(address string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if err = client.Ping(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// newCluster returns the broker, emptied.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := clusterAt(t, []string{realBroker})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// A broker learns later than the controller of what was made and removed.
	for empty := 0; empty < 3; time.Sleep(20 * time.Millisecond) {
		topics, err := c.admin.ListTopics(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if empty++; len(topics) > 0 {
			empty = 0
			c.admin.DeleteTopics(ctx, topics.Names()...)
		}
	}
	// A group that a member is about to leave cannot be removed yet.
	eventually(t, "the broker has no groups", func() bool {
		groups, err := c.admin.ListGroups(ctx)
		if err != nil {
			return false
		}
		c.admin.DeleteGroups(ctx, groups.Groups()...)
		return len(groups) == 0
	})
	return c
}
