// Decodes objects from standard input, one a line as {"name": ..., "kind": ..., "object": ...}, into the Go types that
// Kubernetes and the Prometheus Operator decode them into, and refuses fields that a type does not have. Prints
// one line for each that does not fit; the exit status is 1 if there was one.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	strict "sigs.k8s.io/json"
)

func typeOf(kind string) any {
	switch kind {
	case "v1/Service":
		return &corev1.Service{}
	case "apps/v1/StatefulSet":
		return &appsv1.StatefulSet{}
	case "networking.k8s.io/v1/NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "policy/v1/PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "monitoring.coreos.com/v1/Prometheus":
		return &monitoringv1.Prometheus{}
	}
	return nil
}

func decode(kind string, object []byte) error {
	into := typeOf(kind)
	if into == nil {
		return fmt.Errorf("no type is known for %q", kind)
	}
	// The decoder of the API server: it minds the case of names, and sees what comes twice.
	unknown, err := strict.UnmarshalStrict(object, into)
	return errors.Join(append(unknown, err)...)
}

func main() {
	failed := false
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var document struct {
			Name   string
			Kind   string
			Object json.RawMessage
		}
		err := json.Unmarshal(lines.Bytes(), &document)
		if err == nil {
			err = decode(document.Kind, document.Object)
		}
		if err != nil {
			failed = true
			fmt.Printf("%s: %v\n", document.Name, err)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Println(err)
		failed = true
	}
	if failed {
		os.Exit(1)
	}
}
